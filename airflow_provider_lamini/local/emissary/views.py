"""How the Emissary API shows projects, datasets, training jobs, checkpoints, deployments and engines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.emissary.resources import Deployment, StoredDataset
from airflow_provider_lamini.local.emissary.service import effective
from airflow_provider_lamini.local.emissary.training_spec import TrainingSpec

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.emissary.policy import ResourcePolicy
    from airflow_provider_lamini.local.emissary.resources import Checkpoint, Engine, Project
    from airflow_provider_lamini.local.emissary.service import BaseModel, Emissary
    from airflow_provider_lamini.local.jobs.store import Job

    View = dict[str, Json]

USER: Final = "user-local"
"""The only user of this platform."""


def base_model(model: BaseModel) -> View:
    """Show a base model."""
    return {
        "name": model.name,
        "type": model.type,
        "parameter_template": {**effective(model.parameters)},
        "support_serverless": True,
    }


def project(shown: Project) -> View:
    """Show a project in a list."""
    return {"id": shown.id, "name": shown.name}


def project_detail(emissary: Emissary, shown: Project) -> View:
    """Show a project and what it holds."""
    datasets, deployments = (
        emissary.resources.all(StoredDataset, shown.id),
        emissary.resources.all(Deployment, shown.id),
    )
    return {
        **project(shown),
        "datasets": [dataset(item) for item in datasets],
        "training_jobs": [training_job(emissary, job) for job in emissary.training_jobs(shown.id)],
        "deployments": [deployment(emissary, item) for item in deployments],
    }


def dataset(shown: StoredDataset) -> View:
    """Show a dataset in a list."""
    return {
        "id": shown.id,
        "name": shown.name,
        "created_at": int(shown.created),
        "is_uploaded": shown.ready <= time.time(),
    }


def dataset_detail(shown: StoredDataset, url: str) -> View:
    """Show a dataset.

    :param shown: the dataset
    :param url: signed URL of its file
    """
    return {
        **dataset(shown),
        "dataset_download_url": url,
        "upload_by": USER,
        "updated_at": int(shown.updated),
    }


def training_job(emissary: Emissary, job: Job) -> View:
    """Show a training job in a list."""
    spec = TrainingSpec.from_params(job.params)
    return {**_job_fields(emissary, job, spec), "train_dataset_name": spec.dataset_name}


def training_job_detail(emissary: Emissary, job: Job) -> View:
    """Show a training job with its loss curve."""
    spec = TrainingSpec.from_params(job.params)
    losses = emissary.resources.losses(job.id)
    shown: View = {
        **_job_fields(emissary, job, spec),
        "training_loss": [{"timestamp": point.at, "loss": point.loss} for point in losses],
        "hyper_parameters": {**spec.parameters},
    }
    for field, dataset_id in (("train_dataset", spec.dataset), ("test_dataset", spec.test_dataset)):
        used = emissary.resources.find(StoredDataset, dataset_id) if dataset_id is not None else None
        if used is not None:
            shown[field] = dataset(used)
    return shown


def _job_fields(emissary: Emissary, job: Job, spec: TrainingSpec) -> View:
    last = emissary.resources.last_loss(job.id)
    fields: View = {
        "id": job.id,
        "name": spec.name,
        "training_technique": spec.technique,
        "task_type": spec.task_type,
        "base_model_option": "pre-trained" if spec.fine_tuned is None else "fine-tuned",
        "base_model": spec.base,
        "test_functions": [*spec.test_functions],
        "status": emissary.training.status(job),
        "progress": emissary.training.progress(job),
        "created_by": USER,
        "created_at": int(job.created),
        "updated_at": int(job.ended or (job.created if last is None else last.at)),
    }
    if spec.fine_tuned is not None:
        fields["base_fine_tuned_model"] = spec.fine_tuned
        fields["base_fine_tuned_model_checkpoint"] = spec.fine_tuned_checkpoint
    if spec.reward:
        fields["reward"] = {**spec.reward}
    if job.detail is not None:
        fields["error"] = job.detail  # the contract has no field that says why a job failed
    return fields


def checkpoint(shown: Checkpoint, url: str) -> View:
    """Show a checkpoint.

    :param shown: the checkpoint
    :param url: signed URL of its file
    """
    view: View = {
        "checkpoint": shown.number,
        "model_download_url": url,
        "created_at": int(shown.created),
        "updated_at": int(shown.updated),
    }
    if shown.rows is not None:
        view["test_results"] = {
            "general_test_result": f"Tested on {shown.rows} rows.",
            "aggregated_test_result": {name: f"{score:.4f}" for name, score in shown.scores.items()},
        }
    return view


def deployment(emissary: Emissary, shown: Deployment) -> View:
    """Show a deployment in a list."""
    return {
        "id": shown.id,
        "name": shown.name,
        "status": emissary.serving.deployment_status(shown),
        "created_at": int(shown.created),
    }


def deployment_detail(emissary: Emissary, shown: Deployment) -> View:
    """Show a deployment."""
    view: View = {
        **deployment(emissary, shown),
        "task_type": shown.task_type,
        "description": shown.description,
        "base_model": shown.base,
        "training_id": shown.training,
        "checkpoint": shown.checkpoint,
        "updated_at": int(shown.updated),
    }
    return view | {"metadata": {"labels": [*shown.labels]}} if shown.labels else view


def engine(emissary: Emissary, shown: Engine) -> View:
    """Show an engine in a list."""
    return {
        "id": shown.id,
        "name": shown.name,
        "status": emissary.serving.engine_status(shown),
        "base_model": shown.base,
        "server_type": "on-demand",
        "task_type": shown.task_type,
        "deployment_counts": len(emissary.serving.deployments_on(shown)),
        "created_at": int(shown.created),
    }


def engine_detail(emissary: Emissary, shown: Engine) -> View:
    """Show an engine and its deployments."""
    deployments = emissary.serving.deployments_on(shown)
    view = engine(emissary, shown)
    del view["deployment_counts"]
    return {
        **view,
        "deployments": [deployment(emissary, item) for item in deployments],
        "base_model_option": "pre-trained",
        "last_access_timestamp": int(shown.accessed),
        "resource_management_config": _management(shown.policy),
    }


def _management(policy: ResourcePolicy) -> View:
    schedule = policy.schedule
    if schedule is None:
        return {
            "management_type": "inactive_timeout",
            "management_config": {"inactive_duration": policy.inactive_seconds},
        }
    config: View = {
        "timezone": schedule.timezone,
        "start_time": schedule.start_time,
        "end_time": schedule.end_time,
        "days": [*schedule.days],
    }
    return {"management_type": "schedule", "management_config": config}
