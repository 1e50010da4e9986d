"""Loops over every operator and every TaskFlow decorator.

``test_loops.py`` copies this file into Airflow's Dags folder; ``LOOP_FOLDER`` is for its files.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, task_group

from airflow_provider_lamini.decorators import task
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from tests.bad_input.world import VALID_ARGUMENTS, World, operator_classes
from tests.support.databases import CONN_ID
from tests.test_golden import GOLDEN

FOLDER = Path(os.environ["LOOP_FOLDER"])
ITERATION = "{{ ti.region_index }}"
ITERATION_OF_MAPPED = "{{ loop.index }}"
OF_ITERATION: dict[str, dict[str, object]] = {
    "ClassifierTrainOperator": {"project": f"p-{ITERATION}"},
    "MemoryRagRefreshOperator": {"manifest": f"{FOLDER}/manifest-{ITERATION}.json"},
    "EmissaryDeployOperator": {"reuse": False},
    "EmissaryProjectOperator": {"name": f"support-{ITERATION}"},
    "EmissaryDeleteProjectOperator": {"project_id": f"ms-none-{ITERATION}"},
    "EmissaryUndeployOperator": {"model_name": f"none-{ITERATION}"},
    "EmissaryDeleteOperator": {"job_id": f"ms-1/dp-none-{ITERATION}"},
}
"""Each iteration names and makes its own things, and may not delete what other operators use."""
DECORATORS = {
    "lamini_batch_inference": "BatchInferenceOperator",
    "lamini_classify": "ClassifyOperator",
    "lamini_embed": "EmbeddingOperator",
    "lamini_completion": "CompletionOperator",
    "emissary_batch_inference": "EmissaryBatchInferenceOperator",
}
"""The TaskFlow decorators, each with its operator."""


class Last(BaseOperator):
    """The last task of an iteration: a loop needs one."""

    def execute(self, context: Any) -> None:
        """Do nothing."""


def operators_of_a_body(family: str) -> list[BaseOperator]:
    """One task for each operator of a family, with an output folder for each iteration."""
    fill_in = World(None, None, FOLDER).fill_in
    made = []
    for name, kind in operator_classes().items():
        if name.startswith("Emissary") is (family == "emissary"):
            given = VALID_ARGUMENTS[name] | OF_ITERATION.get(name, {})
            if "output" in given:
                given["output"] = f"{FOLDER}/{name}-{ITERATION}"
            waits = {"poll_interval": 0.1} if "poll_interval" in kind.template_fields else {}
            made.append(kind(task_id=name, **{key: fill_in(value) for key, value in given.items()}, **waits))
    return made


def load_of_a_body(family: str) -> list[BaseOperator]:
    """The task that needs no platform, with a table for each iteration."""
    del family
    return [
        ResultsToTableOperator(
            task_id="load",
            results=str(GOLDEN / "output"),
            conn_id=CONN_ID,
            table=f"answers_{ITERATION}",
            columns={"id": "id", "answer": "output"},
            key=None,
            failed_rows="load",
        )
    ]


def decorated_of_a_body(family: str) -> list[BaseOperator]:
    """One task for each decorator, whose function gives the texts; each iteration has its own output folder."""
    del family
    made = []
    for name, operator in DECORATORS.items():
        given = {
            key: each for key, each in VALID_ARGUMENTS[operator].items() if key not in ("input", "prompt")
        }
        if "output" in given:
            given["output"] = f"{FOLDER}/{name}-{ITERATION}"

        waits = (
            {"poll_interval": 0.1} if "poll_interval" in operator_classes()[operator].template_fields else {}
        )

        @getattr(task, name)(task_id=name, **given, **waits)
        def texts(ti: Any) -> list[str]:
            return [f"text of iteration {ti.region_index}"]

        made.append(texts().operator)
    return made


MAKERS = {
    "lamini": operators_of_a_body,
    "emissary": operators_of_a_body,
    "decorated": decorated_of_a_body,
    "table": load_of_a_body,
}

for family in sorted(MAKERS):
    for iterations in (1, 2):
        with DAG(
            f"loop_{family}_{iterations}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
        ) as dag:

            @task_group
            def body(family: str) -> None:
                """One iteration."""
                MAKERS[family](family) >> Last(task_id="last")

            body.partial(family=family).loop(max_iterations=iterations)
        globals()[dag.dag_id] = dag


def mapped_inference(task_id: str, folder: str) -> None:
    """Infer twice, with one mapped task, each with an output folder of its own."""
    LaminiBatchInferenceOperator.partial(
        task_id=task_id, input=["a b"], model_name="m", poll_interval=0.1
    ).expand(output=[f"{FOLDER}/{folder}-{number}" for number in range(2)])


with DAG("loop_mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as loop_mapped:

    @task_group
    def mapped_body(name: str) -> None:
        """One iteration with a mapped task."""
        mapped_inference("infer", f"{name}-{ITERATION_OF_MAPPED}")

    mapped_inference("outside", "outside")
    mapped_body.partial(name="inside").loop(max_iterations=2)
