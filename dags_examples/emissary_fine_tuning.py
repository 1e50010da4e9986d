"""Fine-tuning on Emissary: every week, train on labelled tickets, deploy the best checkpoint, and let it sort new tickets.

The deployment is removed afterwards, also if a task has failed. ``make demo-emissary`` runs the Dag on a laptop.
"""

from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.choose_checkpoint import EmissaryChooseCheckpointOperator
from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator
from airflow_provider_lamini.operators.emissary.project import EmissaryProjectOperator
from airflow_provider_lamini.operators.emissary.train import EmissaryTrainOperator
from airflow_provider_lamini.operators.emissary.undeploy import EmissaryUndeployOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator

with DAG(
    "emissary_fine_tuning",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"deferrable": True, "retries": 2},  # no worker slot is held, however long it takes
    params={
        "data": str(Path(__file__).parent / "data"),  # or s3://, gs://, abfs://
        "output": "/tmp/emissary_fine_tuning",  # noqa: S108
        "project": "support-tickets",
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "epochs": 4,  # the platform keeps a checkpoint of each
        "threshold": 0.3,  # skip the deployment if no checkpoint gets this share of the test rows right
    },
):
    # Exactly what the model sees in training and in inference: nothing is added to it.
    question = "Ticket: {subject}. {body}\nCategory:"
    model_name = "tickets-{{ run_id }}"  # a name for each run, by which the teardown finds the deployment
    project = EmissaryProjectOperator(task_id="project", name="{{ params.project }}")
    project_id = project.output["project_id"]
    upload = EmissaryUploadDatasetOperator(
        task_id="upload",
        project_id=project_id,
        input="{{ params.data }}/tickets_examples.jsonl",
        prompt=question,
        answer="category",
    )
    train = EmissaryTrainOperator(
        task_id="train",
        project_id=project_id,
        base_model="{{ params.model }}",
        dataset_id=upload.output["dataset_id"],
        train_test_split_ratio=20,  # percent of the rows that only test the checkpoints
        test_functions=["exact_match"],
        parameters={"num_train_epochs": "{{ params.epochs }}", "learning_rate": 1e-3},
        output="{{ params.output }}/{{ run_id }}/training",  # the loss curve
    )
    choose = EmissaryChooseCheckpointOperator(
        task_id="choose",
        project_id=project_id,
        training_job_id=train.output["training_job_id"],
        metric="exact_match",
        threshold="{{ params.threshold }}",
        gate="skip",  # gate="fail" fails the run instead
    )
    deploy = EmissaryDeployOperator(
        task_id="deploy",
        project_id=project_id,
        training_job_id=train.output["training_job_id"],
        checkpoint=choose.output["checkpoint"],
        name=model_name,
        inactive_timeout=900,  # should nothing remove it, it is parked and costs nothing
    )
    infer = EmissaryBatchInferenceOperator(
        task_id="infer",
        project_id=project_id,
        model_name=deploy.output["model_name"],
        input="{{ params.data }}/tickets_held_out.jsonl",
        prompt=question,
        output="{{ params.output }}/{{ run_id }}/answers",
        passthrough=["ticket_id", "category"],
        max_new_tokens=8,
        max_failed_rows="1%",
    )
    undeploy = EmissaryUndeployOperator(task_id="undeploy", project_id=project_id, model_name=model_name)
    deploy >> infer >> undeploy.as_teardown()  # without setups, so that it also runs if deploy has failed
