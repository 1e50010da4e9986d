"""Scheduled fine-tuning: every week, tune a model on labelled tickets and promote it if it got better.

The Dag publishes the model as an asset only if it gains on tickets that neither model has seen; ``answer_with_tuned_model.py``
is scheduled on that asset. ``make demo-tuning`` runs it on a laptop.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset

from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator

MODEL = Asset("lamini://models/support-tickets")

with DAG(
    "scheduled_fine_tuning",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"deferrable": True, "retries": 2},  # no worker slot is held, however long it takes
    params={
        "data": str(Path(__file__).parent / "data"),  # or s3://, gs://, abfs://
        "output": "/tmp/scheduled_fine_tuning",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "max_steps": 20,  # of ten rows: enough for 50 tickets; thousands of rows need hundreds of steps
        "gain": 0.2,  # promote if the fraction of correct held-out tickets grows by this much
    },
):
    # Exactly what the model sees in training and in inference: nothing is added to it.
    row = {"prompt": "Ticket: {subject}. {body}\nCategory:", "answer": "category"}
    examples = "{{ params.data }}/tickets_examples.jsonl"
    upload = LaminiUploadDatasetOperator(task_id="upload", input=examples, **row)
    train = LaminiTrainOperator(
        task_id="train",
        model_name="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        custom_model_name="tickets-{{ run_id }}",  # a name for each run
        finetune_args={"max_steps": "{{ params.max_steps }}", "learning_rate": 1e-3},
    )
    evaluate = LaminiEvaluateOperator(
        task_id="evaluate",
        model_name=train.output["model_name"],
        base_model_name="{{ params.model }}",
        input="{{ params.data }}/tickets_held_out.jsonl",  # not used for training
        output="{{ params.output }}/{{ run_id }}",  # contains report.md, which compares the two models
        output_type={"category": ["billing", "login", "shipping", "defect", "feature request"]},
        min_gain={"exact_match": "{{ params.gain }}"},
        gate="skip",  # if it did not get better, promote nothing; gate="fail" fails the run
        outlets=[
            MODEL
        ],  # the event's extra has model_name, metrics and report, for the Dags that are scheduled on it
        **row,
    )
