"""A Dag for the installed package: it infers over three rows in the triggerer and compares the results with the input."""

from __future__ import annotations

import os
import sys

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.results import read_outputs

TEXTS = ["one", "one two", "one two three"]

with DAG(
    "installed", schedule=None, start_date=pendulum.datetime(2026, 1, 1), default_args={"retries": 0}
) as dag:
    infer = LaminiBatchInferenceOperator(
        task_id="infer",
        input=[{"id": number, "text": text} for number, text in enumerate(TEXTS)],
        prompt="text",
        model_name=os.environ.get("MODEL", ""),
        output="{{ params.output }}",
        passthrough=["id"],
        params={"output": os.environ.get("OUTPUT", "")},
        deferrable=True,
        poll_interval=0.1,
    )

    @task
    def compare(folder: str) -> None:
        """Fail unless each row has an output, in the order of the input."""
        rows = [(row["id"], bool(row["output"])) for row in read_outputs(folder)]
        if rows != [(number, True) for number in range(len(TEXTS))]:
            raise ValueError(f"{folder} has {rows}")

    compare(infer.output["output"])

if __name__ == "__main__":
    if hasattr(dag, "sync_to_db"):
        dag.sync_to_db()  # Airflow 2
    states = {str(ti.task_id): str(ti.state) for ti in dag.test().get_task_instances()}
    print(f"the Dag has ended: {states}")
    sys.exit(states != {"infer": "success", "compare": "success"})
