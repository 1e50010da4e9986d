"""How to tune a model: upload rows, train, compare with the base model, and have the platform download a model."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.download_model import LaminiDownloadModelOperator
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator

with DAG(
    "howto_tuning",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    download = LaminiDownloadModelOperator(
        task_id="download",
        model_name="{{ params.model }}",
        deferrable=True,
    )
    upload = LaminiUploadDatasetOperator(
        task_id="upload",
        input="{{ params.data }}/labelled/*.jsonl",
        prompt="Ticket: {subject}\nCategory:",
        answer="category",
    )
    train = LaminiTrainOperator(
        task_id="train",
        model_name="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        custom_model_name="tickets-{{ run_id }}",
        finetune_args={"max_steps": 200, "learning_rate": 3e-4},
        deferrable=True,
    )
    evaluate = LaminiEvaluateOperator(
        task_id="evaluate",
        model_name=train.output["model_name"],
        base_model_name="{{ params.model }}",
        input="{{ params.data }}/held-out.jsonl",
        prompt="Ticket: {subject}\nCategory:",
        answer="category",
        min_gain={"exact_match": 0.05},
        gate="skip",
        output="{{ params.data }}/evaluations/{{ run_id }}",
        deferrable=True,
    )
    download >> train
