"""Nightly batch inference: support tickets in, a category for each of them out.

The rows are read from object storage, sent to the platform as batch jobs, and waited for without holding a worker.
The results lie in the output folder, one row per ticket, in order. ``make demo`` runs it on a laptop.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

# What the model may answer, in words that a small one knows, and what people called it. A large model needs no such help.
CATEGORIES = {
    "payment": "billing",
    "login": "login",
    "delivery": "shipping",
    "broken": "defect",
    "wish": "feature request",
}

with DAG(
    "nightly_batch_inference",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "input": str(Path(__file__).parent / "data" / "support_tickets.jsonl"),  # or s3://, gs://, abfs://
        "output": "/tmp/nightly_batch_inference",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
):
    categorize = LaminiBatchInferenceOperator(
        task_id="categorize_tickets",
        input="{{ params.input }}",
        prompt='{body}\n\nThe subject of this message is "{subject}". It is about',  # columns in single braces
        model_name="{{ params.model }}",
        output_type={"category": list(CATEGORIES)},
        chunk_size=20,  # small, to see it at work; thousands for a real table
        max_in_flight=3,
        output="{{ params.output }}/{{ run_id }}",  # one for each run: a retry finds there what is done
        passthrough=["ticket_id", "subject", "expected_category"],
        max_failed_rows="10%",  # one bad ticket must not cost the night
        deferrable=True,
        poll_interval=5,
    )

    @task
    def share_that_agrees(output: str) -> float:
        """Compare with the categories that people gave, where they did."""
        from airflow_provider_lamini.results import read_outputs

        rows = [row for row in read_outputs(output) if row["expected_category"] and row["output"]]
        agree = [row for row in rows if CATEGORIES[row["output"]["category"]] == row["expected_category"]]
        return len(agree) / max(1, len(rows))

    share_that_agrees(categorize.output["output"])
