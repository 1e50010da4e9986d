"""Scheduled on a tuned model: whenever ``scheduled_fine_tuning`` has promoted a model, sort the open tickets with it.

The model's name comes from the asset event; ``LaminiEvaluateOperator`` puts it there. Started by hand, the Dag takes it from
``params``.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

MODEL = Asset("lamini://models/support-tickets")

with DAG(
    "answer_with_tuned_model",
    schedule=[MODEL],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "input": str(Path(__file__).parent / "data" / "tickets_held_out.jsonl"),  # or s3://, gs://, abfs://
        "output": "/tmp/answer_with_tuned_model",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
) as dag:

    @task
    def newest_model(**context: object) -> str:
        """Return the name of the model that was promoted last."""
        # Airflow 2 calls assets datasets.
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        extras = [event.extra for found in events.values() for event in found]
        return extras[-1]["model_name"] if extras else context["params"]["model"]

    LaminiBatchInferenceOperator(
        task_id="sort_tickets",
        input="{{ params.input }}",
        prompt="Ticket: {subject}. {body}\nCategory:",
        model_name=newest_model(),
        output="{{ params.output }}/{{ run_id }}",
        output_type={"category": ["billing", "login", "shipping", "defect", "feature request"]},
        passthrough=["ticket_id"],
        deferrable=True,
        poll_interval=5,
    )
