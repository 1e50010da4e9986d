"""Scheduled fine-tuning: every week a model learns from sorted tickets, and is promoted if that made it better.

Only a gain on tickets that neither model has seen publishes it, as an asset. ``make demo-tuning`` shows it on a laptop.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator

MODEL = Asset("lamini://models/support-tickets")

with DAG(
    "scheduled_fine_tuning",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"deferrable": True},  # no worker waits, however long it takes
    params={
        "data": str(Path(__file__).parent / "data"),  # any object storage that Airflow knows serves
        "output": "/tmp/scheduled_fine_tuning",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "max_steps": 20,  # of ten rows: enough for 50 tickets, thousands of rows want hundreds
        "gain": 0.2,  # promote if so much more of the held-out tickets is right
    },
):
    # What the model sees, when it learns and when it is asked: nothing is added to it.
    row = {"prompt": "Ticket: {subject}. {body}\nCategory:", "answer": "category"}
    examples = "{{ params.data }}/tickets_examples.jsonl"
    upload = LaminiUploadDatasetOperator(task_id="upload", input=examples, **row)
    train = LaminiTrainOperator(
        task_id="train",
        model_name="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        custom_model_name="tickets-{{ run_id }}",  # one of its own for each run
        finetune_args={"max_steps": "{{ params.max_steps }}", "learning_rate": 1e-3},
    )
    evaluate = LaminiEvaluateOperator(
        task_id="evaluate",
        model_name=train.output["model_name"],
        base_model_name="{{ params.model }}",
        input="{{ params.data }}/tickets_held_out.jsonl",  # none that the model has learnt from
        output="{{ params.output }}/{{ run_id }}",  # report.md there compares the two models
        output_type={"category": ["billing", "login", "shipping", "defect", "feature request"]},
        min_gain={"exact_match": "{{ params.gain }}"},
        gate="skip",  # not better: nothing is promoted. gate="fail" calls people.
        **row,
    )

    @task(outlets=[MODEL])
    def promote(result, *, outlet_events) -> None:  # noqa: ANN001 - as Airflow calls it
        """Publish the model. What serves it would be told here."""
        outlet_events[MODEL].extra = {key: result[key] for key in ("model_name", "metrics", "report")}

    promote(evaluate.output)
