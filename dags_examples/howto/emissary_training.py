"""How to train on Emissary: a project, a dataset, supervised or reward training, the best checkpoint."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.emissary.choose_checkpoint import EmissaryChooseCheckpointOperator
from airflow_provider_lamini.operators.emissary.project import (
    EmissaryDeleteProjectOperator,
    EmissaryProjectOperator,
)
from airflow_provider_lamini.operators.emissary.train import EmissaryGRPOTrainOperator, EmissaryTrainOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from airflow_provider_lamini.sensors.emissary import EmissaryJobSensor

with DAG(
    "howto_emissary_training",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    project = EmissaryProjectOperator(task_id="project", name="tickets-{{ run_id }}")
    project_id = project.output["project_id"]
    upload = EmissaryUploadDatasetOperator(
        task_id="upload",
        project_id=project_id,
        input="{{ params.data }}/labelled/*.jsonl",
        prompt="Ticket: {subject}\nCategory:",
        answer="category",
    )
    train = EmissaryTrainOperator(
        task_id="train",
        project_id=project_id,
        base_model="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        test_functions=["exact_match"],
        train_test_split_ratio=20,
        deferrable=True,
    )
    choose = EmissaryChooseCheckpointOperator(
        task_id="choose",
        project_id=project_id,
        training_job_id=train.output["training_job_id"],
        metric="exact_match",
        threshold=0.7,
    )
    reward = EmissaryGRPOTrainOperator(
        task_id="reward",
        project_id=project_id,
        base_model="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        test_functions=["exact_match"],
        reward={"exact_match": 1},
        wait=False,
    )
    rewarded = EmissaryJobSensor(task_id="rewarded", job_id=reward.output["job_id"], deferrable=True)
    delete_project = EmissaryDeleteProjectOperator(
        task_id="delete_project",
        project_id=project_id,
        delete_contents=True,
    )
    [choose, rewarded] >> delete_project
