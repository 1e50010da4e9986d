"""Nightly batch inference: support tickets in, a category for each of them out.

The rows are read from object storage, sent to the platform as batch jobs, and waited for without holding a
worker. The
results lie in the output folder, one row per ticket, in order. With the local platform it runs on a laptop:
``make demo``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

HERE = Path(__file__).parent

with DAG(
    "nightly_batch_inference",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    params={
        # Any object storage that Airflow knows serves: s3://, gs://, abfs://, or a local path.
        "input": str(HERE / "data" / "support_tickets.jsonl"),
        "output": "/tmp/nightly_batch_inference",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
):
    categorize = LaminiBatchInferenceOperator(
        task_id="categorize_tickets",
        input="{{ params.input }}",
        # Columns of the input stand in single braces. A small model does better with a few examples.
        prompt="{subject}",
        model_name="{{ params.model }}",
        output_type={"category": ["billing", "login", "shipping", "defect", "feature request"]},
        max_new_tokens=24,
        chunk_size=20,
        max_in_flight=3,
        # A folder of its own for each run: a retry finds what is done there, the next night starts afresh.
        output="{{ params.output }}/{{ run_id }}",
        passthrough=["ticket_id", "subject", "expected_category"],
        # One bad ticket must not cost the night; one in ten is a reason to look.
        max_failed_rows="10%",
        deferrable=True,
        poll_interval=5,
    )

    @task
    def share_that_agrees(manifest: dict[str, object]) -> float:
        """Compare with the categories that people gave, where they did."""
        from airflow_provider_lamini.rows.manifest import read_outputs

        labelled = [row for row in read_outputs(manifest["output"]) if row["expected_category"]]
        agree = sum(
            row["output"]["category"] == row["expected_category"] for row in labelled if row["output"]
        )
        return agree / len(labelled)

    share_that_agrees(categorize.output)
