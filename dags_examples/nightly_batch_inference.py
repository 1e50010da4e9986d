"""Nightly batch inference: assign a category to each support ticket.

The Dag reads rows from object storage and sends them to the platform as batch jobs; no worker slot is held while they run.
The output folder holds the results, one row per ticket, in order. ``make demo`` runs the Dag on a laptop.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

# The answers the model can choose from, mapped to the categories in the data. Only a small model needs such simple words.
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
        chunk_size=20,  # small for the demo; use thousands for a real table
        max_in_flight=3,
        output="{{ params.output }}/{{ run_id }}",  # one folder per run: a retry continues from it
        # Rows that have not changed since the last run are copied from its folder and not sent again.
        reuse_from="{{ ti.xcom_pull(task_ids='categorize_tickets', key='output', include_prior_dates=True) or '' }}",
        passthrough=["ticket_id", "subject", "expected_category"],
        max_failed_rows="10%",  # a few bad tickets must not fail the whole run
        deferrable=True,
        poll_interval=5,
    )

    @task
    def share_that_agrees(output: str) -> float:
        """Compare the answers with the expected categories, for tickets that have one."""
        from airflow_provider_lamini.results import read_outputs

        rows = [row for row in read_outputs(output) if row["expected_category"] and row["output"]]
        agree = [row for row in rows if CATEGORIES[row["output"]["category"]] == row["expected_category"]]
        return len(agree) / max(1, len(rows))

    share_that_agrees(categorize.output["output"])
