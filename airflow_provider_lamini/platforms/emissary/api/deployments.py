"""Deployments of a project: checkpoints and base models that answer requests."""

from collections.abc import Mapping

from pydantic import Field, NonNegativeInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Json, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import (
    ActiveTimes,
    ListOf,
    Schedule,
    UnixTime,
    parse_no_content,
)


class CreateDeploymentRequest(ActiveTimes):
    """The body of ``POST /v1/projects/{project_id}/deployments``."""

    training_job_id: str = Field(min_length=1)
    """A training job, or a base model's name."""
    checkpoint: NonNegativeInt
    """0 for a base model."""
    name: str | None = Field(default=None, min_length=1)
    description: str | None = None


class DeploymentSummary(schema.Response):
    """A deployment in a list."""

    id: schema.Id
    status: str
    """The platform's status word, such as ``Deployed``."""
    name: str | None = None
    """Inference takes it as the model."""
    created_at: UnixTime | None = None


class DeploymentMetadata(schema.Response):
    """What a deployment answers with."""

    labels: ListOf[str]
    """The classes of a classifier."""


class DeploymentDetail(DeploymentSummary):
    """A deployment."""

    task_type: str | None = None
    metadata: DeploymentMetadata | None = None
    description: str | None = None
    base_model: str | None = None
    training_id: schema.Id | None = None
    checkpoint: int | None = None
    updated_at: UnixTime | None = None


def create(
    project_id: str,
    *,
    training_job_id: str,
    checkpoint: int,
    name: str | None = None,
    description: str | None = None,
    inactive_timeout: int | None = None,
    schedule: Schedule | Mapping[str, Json] | None = None,
) -> Call[DeploymentSummary]:
    """Deploy a checkpoint or a base model: ``POST /v1/projects/{project_id}/deployments``.

    :param project_id: the project
    :param training_job_id: the training job, or a base model's name
    :param checkpoint: number of the checkpoint; 0 for a base model
    :param name: name for the deployment
    :param description: text about it
    :param inactive_timeout: seconds without a request until it is deactivated; the platform's default is 3600
    :param schedule: when it is active, instead of ``inactive_timeout``
    :returns: the deployment
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "training_job_id": training_job_id,
        "checkpoint": checkpoint,
        "name": name,
        "description": description,
        "inactive_timeout": inactive_timeout,
        "schedule": schema.set_fields(schedule),
    }
    return Call(
        operation="createDeployment",
        method="POST",
        path=_path(project_id),
        json=schema.body(CreateDeploymentRequest, arguments),
        parse=schema.parser(DeploymentSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_all(project_id: str) -> Call[list[DeploymentSummary]]:
    """List the deployments of a project: ``GET /v1/projects/{project_id}/deployments``.

    :param project_id: the project
    """
    return Call(
        operation="listDeployments",
        method="GET",
        path=_path(project_id),
        parse=schema.list_parser(DeploymentSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def deployment(project_id: str, deployment_id: str) -> Call[DeploymentDetail]:
    """Get a deployment: ``GET /v1/projects/{project_id}/deployments/{deployment_id}``.

    :param project_id: the project
    :param deployment_id: the deployment
    """
    return Call(
        operation="retrieveDeploymentById",
        method="GET",
        path=_item_path(project_id, deployment_id),
        parse=schema.parser(DeploymentDetail),
        retry=Retry.SAFE,
    )


def delete(project_id: str, deployment_id: str) -> Call[None]:
    """Delete a deployment: ``DELETE /v1/projects/{project_id}/deployments/{deployment_id}``.

    :param project_id: the project
    :param deployment_id: the deployment
    """
    return Call(
        operation="deleteDeploymentById",
        method="DELETE",
        path=_item_path(project_id, deployment_id),
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def reactivate(project_id: str, deployment_id: str) -> Call[None]:
    """Wake a deployment: ``POST /v1/projects/{project_id}/deployments/{deployment_id}/reactivate``.

    It takes about 8 to 20 minutes. The platform refuses it with 400 if the deployment is active or wakes already.

    :param project_id: the project
    :param deployment_id: the deployment
    """
    return Call(
        operation="reactivateDeploymentById",
        method="POST",
        path=f"{_item_path(project_id, deployment_id)}/reactivate",
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def _path(project_id: str) -> str:
    return f"/v1/projects/{schema.path_segment(project_id, 'project_id')}/deployments"


def _item_path(project_id: str, deployment_id: str) -> str:
    return f"{_path(project_id)}/{schema.path_segment(deployment_id, 'deployment_id')}"
