"""A Dag for the installed package: it infers over three rows in the triggerer, and checks what users get from that.

These are the results, the event of an asset, and the answer to a prompt that a TaskFlow function has written.
"""

from __future__ import annotations

import os
import sys

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.results import read_outputs

TEXTS = ["one", "one two", "one two three"]
MODEL = os.environ.get("MODEL", "")
ANSWERS = Asset("lamini://answers")

with DAG(
    "installed", schedule=None, start_date=pendulum.datetime(2026, 1, 1), default_args={"retries": 0}
) as dag:
    infer = LaminiBatchInferenceOperator(
        task_id="infer",
        input=[{"id": number, "text": text} for number, text in enumerate(TEXTS)],
        prompt="text",
        model_name=MODEL,
        output="{{ params.output }}",
        passthrough=["id"],
        params={"output": os.environ.get("OUTPUT", "")},
        outlets=[ANSWERS],
        deferrable=True,
        poll_interval=0.1,
    )

    @task.lamini_completion(model_name=MODEL, inlets=[ANSWERS])
    def summarize(*, inlet_events: dict) -> str:
        """Fail unless the event says what was answered; return a prompt."""
        extra = inlet_events[ANSWERS][-1].extra
        if extra["model"] != MODEL or extra["counts"]["ok"] != len(TEXTS) or not extra["job_ids"]:
            raise ValueError(f"the event has {extra}")
        return f"{extra['counts']['ok']} rows were answered."

    @task
    def compare(folder: str, summary: dict) -> None:
        """Fail unless each row has an output, in the order of the input, and the prompt an answer."""
        rows = [(row["id"], bool(row["output"])) for row in read_outputs(folder)]
        if rows != [(number, True) for number in range(len(TEXTS))] or not summary["output"]:
            raise ValueError(f"{folder} has {rows}, and the answer is {summary}")

    summary = summarize()
    infer >> summary
    compare(infer.output["output"], summary)

if __name__ == "__main__":
    if hasattr(dag, "sync_to_db"):
        dag.sync_to_db()  # Airflow 2
    states = {str(ti.task_id): str(ti.state) for ti in dag.test().get_task_instances()}
    print(f"the Dag has ended: {states}")
    sys.exit(states != dict.fromkeys(("infer", "summarize", "compare"), "success"))
