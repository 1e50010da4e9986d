"""How to serve models on Emissary: deploy, infer, park and wake, remove."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.emissary.activation import (
    EmissaryDeactivateEngineOperator,
    EmissaryReactivateOperator,
)
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator, EmissaryEngineOperator
from airflow_provider_lamini.operators.emissary.undeploy import (
    EmissaryDeleteOperator,
    EmissaryUndeployOperator,
)

with DAG(
    "howto_emissary_serving",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "data": "s3://company",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "project_id": "ms-1",
        "training_job_id": "tr-1",
        "checkpoint": 100,
    },
) as dag:
    deploy = EmissaryDeployOperator(
        task_id="deploy",
        project_id="{{ params.project_id }}",
        training_job_id="{{ params.training_job_id }}",
        checkpoint="{{ params.checkpoint }}",
        name="tickets-{{ run_id }}",
        inactive_timeout=900,
        deferrable=True,
    )
    infer = EmissaryBatchInferenceOperator(
        task_id="infer",
        project_id="{{ params.project_id }}",
        model_name=deploy.output["model_name"],
        input="{{ params.data }}/new/*.jsonl",
        prompt="Ticket: {subject}\nCategory:",
        output="{{ params.data }}/answers/{{ run_id }}",
        max_new_tokens=8,
    )
    undeploy = EmissaryUndeployOperator(
        task_id="undeploy",
        project_id="{{ params.project_id }}",
        model_name="tickets-{{ run_id }}",
    )
    deploy >> infer >> undeploy.as_teardown()

    engine = EmissaryEngineOperator(
        task_id="engine",
        base_model="{{ params.model }}",
        name="shared",
        deferrable=True,
    )
    park = EmissaryDeactivateEngineOperator(task_id="park", engine_id=engine.output["engine_id"])
    wake = EmissaryReactivateOperator(task_id="wake", engine_id=engine.output["engine_id"], deferrable=True)
    delete = EmissaryDeleteOperator(task_id="delete", job_id=engine.output["engine_id"], kind="engine")
    engine >> park >> wake >> delete
