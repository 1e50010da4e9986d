"""Dags with TaskFlow decorators. ``test_taskflow_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"model": "none", "output": "none"},
}
FOLDER = "{{ params.output }}/{{ run_id }}/{{ task.task_id }}-{{ ti.map_index }}"
WAITING = {"deferrable": True, "poll_interval": 0.1, "timeout": 60}


@task
def keep(name: str, result: object, params: dict) -> None:
    """Save what a task returned."""
    Path(params["output"], f"{name}.json").write_text(json.dumps(result, default=list))


def count_call(params: dict, name: str) -> int:
    """Record a call of a function, and return how many there were."""
    with Path(params["output"], f"{name}.calls").open("a") as file:
        file.write("x")
        return file.tell()


with DAG("taskflow_lamini", schedule=None, **COMMON_DAG) as lamini:

    @task
    def products() -> list[str]:
        """Return what to map over."""
        return ["cams", "hubs"]

    @task.lamini_batch_inference(model_name="{{ params.model }}", output=FOLDER, chunk_size=1, **WAITING)
    def infer(product: str, count: int = 2, *, params: dict, ti: object) -> list[str]:
        """Return prompts that another call would not return."""
        call = count_call(params, f"infer-{product}-{count}")
        return [f"{{{{ {product} }}}} {number} {call} {ti.map_index}" for number in range(count)]

    infer.expand(product=products())
    infer.override(task_id="infer_kwargs").expand_kwargs(
        [{"product": "a", "count": 1}, {"product": "b", "count": 3}]
    )

    @task.lamini_embed
    def embed(text: str) -> str:
        """Return a text."""
        return text.upper()

    keep.override(task_id="keep_vectors")("embed", embed.expand(text=["a", "b"]))
    keep.override(task_id="keep_other_vectors")(
        "embed_kwargs", embed.override(task_id="embed_kwargs").expand_kwargs([{"text": "c"}])
    )

    @task.lamini_completion(model_name="{{ params.model }}")
    def complete(first: str, second: str = "two") -> str:
        """Return a prompt."""
        return f"{first} {second} {{{{ params.model }}}}"

    keep.override(task_id="keep_texts")("complete", complete.expand(first=["one", "1"]))
    keep.override(task_id="keep_other_texts")(
        "complete_kwargs",
        complete.override(task_id="complete_kwargs").expand_kwargs([{"first": "3", "second": "4"}]),
    )
    single = complete.override(task_id="single")("one")
    keep.override(task_id="keep_single")("single", single["output"])


with DAG("taskflow_classify", schedule=None, **COMMON_DAG) as classes:

    @task.lamini_classify(model_id="model-c1")
    def classify(text: str) -> list[str]:
        """Return texts."""
        return [text, "ham"]

    keep.override(task_id="keep_classes")("classify", classify.expand(text=["spam", "eggs"]))
    keep.override(task_id="keep_other_classes")(
        "classify_kwargs", classify.override(task_id="other").expand_kwargs([{"text": "ham"}])
    )


with DAG("taskflow_emissary", schedule=None, **COMMON_DAG) as emissary:

    @task.emissary_batch_inference(model_name="live", project_id="ms-1", output=FOLDER, **WAITING)
    def ask(product: str) -> list[str]:
        """Return prompts."""
        return [f"about {product}"]

    ask.expand(product=["cams", "hubs"])
    ask.override(task_id="ask_kwargs").expand_kwargs([{"product": "disks"}])
