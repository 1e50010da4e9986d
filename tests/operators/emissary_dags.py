"""Dags as users write them. ``test_emissary_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.emissary.activation import (
    EmissaryDeactivateEngineOperator,
    EmissaryReactivateOperator,
)
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.choose_checkpoint import EmissaryChooseCheckpointOperator
from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator, EmissaryEngineOperator
from airflow_provider_lamini.operators.emissary.project import (
    EmissaryDeleteProjectOperator,
    EmissaryProjectOperator,
)
from airflow_provider_lamini.operators.emissary.train import EmissaryGRPOTrainOperator, EmissaryTrainOperator
from airflow_provider_lamini.operators.emissary.undeploy import (
    EmissaryDeleteOperator,
    EmissaryUndeployOperator,
)
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from airflow_provider_lamini.sensors.emissary import EmissaryJobSensor

WAITING = {"deferrable": True, "poll_interval": 0.1, "timeout": 60}
STATE = {"state_path": "{{ params.output }}/state"}
COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"output": "none", "prompt": "Say {input}"},
    "default_args": {"retries": 0},
}

with DAG("emissary_weekly", schedule=None, **COMMON_DAG) as weekly:
    project = EmissaryProjectOperator(task_id="project", name="weekly")
    dataset = EmissaryUploadDatasetOperator(
        task_id="upload",
        project_id=project.output["project_id"],
        input="{{ params.output }}/tickets.jsonl",
        **WAITING,
        **STATE,
    )
    trained = EmissaryTrainOperator(
        task_id="train",
        project_id=project.output["project_id"],
        dataset_id=dataset.output["dataset_id"],
        base_model="base",
        test_functions=["accuracy"],
        train_test_split_ratio="{{ 20 }}",
        output="{{ params.output }}/{{ run_id }}",
        **WAITING,
        **STATE,
    )
    best = EmissaryChooseCheckpointOperator(
        task_id="choose",
        project_id=project.output["project_id"],
        training_job_id=trained.output["training_job_id"],
        metric="accuracy",
        threshold=0.7,
    )
    deployed = EmissaryDeployOperator(
        task_id="deploy",
        project_id=project.output["project_id"],
        training_job_id=best.output["training_job_id"],
        checkpoint=best.output["checkpoint"],
        name="weekly-{{ ts_nodash }}",
        inactive_timeout=600,
        **WAITING,
        **STATE,
    )
    answered = EmissaryBatchInferenceOperator(
        task_id="infer",
        project_id=project.output["project_id"],
        model_name=deployed.output["model_name"],
        input="{{ params.output }}/tickets.jsonl",
        prompt="{{ params.prompt }}",
        output="{{ params.output }}/answers",
        **WAITING,
    )
    removed = EmissaryUndeployOperator(
        task_id="undeploy", project_id=project.output["project_id"], model_name="weekly-{{ ts_nodash }}"
    )
    deployed >> answered >> removed.as_teardown()

with DAG("emissary_parts", schedule=None, **COMMON_DAG) as parts:
    rewarded = EmissaryGRPOTrainOperator(
        task_id="reward",
        project_id="ms-1",
        dataset_id="ds-1",
        base_model="base",
        test_functions=["accuracy"],
        reward={"accuracy": 1},
        wait=False,
    )
    waited = EmissaryJobSensor(
        task_id="wait", job_id=rewarded.output["job_id"], deferrable=True, poke_interval=0.5, timeout=60
    )
    engine = EmissaryEngineOperator(task_id="engine", base_model="base", name="shared", **WAITING, **STATE)
    parked = EmissaryDeactivateEngineOperator(task_id="park", engine_id=engine.output["engine_id"], **WAITING)
    woken = EmissaryReactivateOperator(task_id="wake", engine_id=engine.output["engine_id"], **WAITING)
    deleted = EmissaryDeleteOperator(task_id="delete", job_id=engine.output["engine_id"], kind="engine")
    gone = EmissaryDeleteProjectOperator(task_id="gone", project_id="ms-1", delete_contents=True)

    @task
    def note(status):
        """Fail if the engine is not active."""
        assert status == "Active"

    waited >> engine >> parked >> woken >> note(woken.output["status"]) >> deleted >> gone
