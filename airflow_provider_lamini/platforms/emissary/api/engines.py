"""Inference engines: machines that several deployments of one base model share."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Json, Retry
from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
from airflow_provider_lamini.platforms.emissary.api.fields import (
    ActiveTimes,
    ListOf,
    Schedule,
    UnixTime,
    parse_no_content,
)


class InactiveDuration(schema.Request):
    """After what time without requests an engine becomes inactive."""

    inactive_duration: PositiveInt | None = None
    """Seconds."""


class InactiveTimeoutConfig(schema.Request):
    """An engine that becomes inactive after some time without requests."""

    management_type: Literal["inactive_timeout"]
    management_config: InactiveDuration | None = None


class ScheduleConfig(schema.Request):
    """An engine that is active on a schedule."""

    management_type: Literal["schedule"]
    management_config: Schedule | None = None


class CreateEngineRequest(schema.Request):
    """The body of ``POST /v1/engines``."""

    base_model: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    task_type: str | None = Field(default=None, min_length=1)
    resource_management_config: (
        Annotated[InactiveTimeoutConfig | ScheduleConfig, Field(discriminator="management_type")] | None
    ) = None


class DeployOnEngineRequest(schema.Request):
    """The body of ``POST /v1/engines/{engine_id}/deploy``."""

    project_id: str = Field(min_length=1)
    training_id: str = Field(min_length=1)
    checkpoint: NonNegativeInt
    name: str | None = Field(default=None, min_length=1)


class UndeployRequest(schema.Request):
    """The body of ``POST /v1/engines/{engine_id}/undeploy``."""

    deployment_name: str = Field(min_length=1)


class ManagementConfig(schema.Response):
    """When an engine is active: with an inactivity timeout only the first field, with a schedule the others."""

    inactive_duration: int | float | None = None
    timezone: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    days: ListOf[str]


class ResourceManagementConfig(schema.Response):
    """When an engine is active; ``management_type`` tells how it is decided."""

    management_type: str | None = None
    """``inactive_timeout`` or ``schedule``."""
    management_config: ManagementConfig | None = None


class InferenceEngineSummary(schema.Response):
    """An engine in a list."""

    id: schema.Id
    status: str
    """The platform's status word: ``Creating``, ``Active`` or ``Inactive``."""
    name: str | None = None
    base_model: str | None = None
    server_type: str | None = None
    task_type: str | None = None
    deployment_counts: int | None = None
    created_at: UnixTime | None = None


class InferenceEngineDetail(InferenceEngineSummary):
    """An engine and its deployments."""

    deployments: ListOf[DeploymentSummary]
    base_model_option: str | None = None
    last_access_timestamp: UnixTime | None = None
    resource_management_config: ResourceManagementConfig | None = None


def create(
    *,
    base_model: str,
    name: str | None = None,
    task_type: str | None = None,
    inactive_timeout: int | None = None,
    schedule: Schedule | Mapping[str, Json] | None = None,
) -> Call[InferenceEngineSummary]:
    """Create an engine: ``POST /v1/engines``.

    :param base_model: base model of all deployments on it
    :param name: name for the engine
    :param task_type: such as ``text-generation``
    :param inactive_timeout: seconds without a request until it becomes inactive
    :param schedule: when it is active, instead of ``inactive_timeout``
    :returns: the engine
    :raises ValueError: if an argument is invalid
    """
    times = schema.body(
        ActiveTimes, {"inactive_timeout": inactive_timeout, "schedule": schema.set_fields(schedule)}
    )
    config: dict[str, Json] | None = None
    if "schedule" in times:
        config = {"management_type": "schedule", "management_config": times["schedule"]}
    elif times:
        config = {
            "management_type": "inactive_timeout",
            "management_config": {"inactive_duration": times["inactive_timeout"]},
        }
    arguments = {
        "base_model": base_model,
        "name": name,
        "task_type": task_type,
        "resource_management_config": config,
    }
    return Call(
        operation="createEngine",
        method="POST",
        path="/v1/engines",
        json=schema.body(CreateEngineRequest, arguments),
        parse=schema.parser(InferenceEngineSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_all(
    *, base_model: str | None = None, task_type: str | None = None
) -> Call[list[InferenceEngineSummary]]:
    """List the engines of the key: ``GET /v1/engines``.

    :param base_model: only those with this base model
    :param task_type: only those for this task
    """
    filters = {"base_model": base_model, "task_type": task_type}
    return Call(
        operation="listEngines",
        method="GET",
        path="/v1/engines",
        params={name: value for name, value in filters.items() if value is not None},
        parse=schema.list_parser(InferenceEngineSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def engine(engine_id: str) -> Call[InferenceEngineDetail]:
    """Get an engine and its deployments: ``GET /v1/engines/{engine_id}``.

    :param engine_id: the engine
    """
    return Call(
        operation="getEngine",
        method="GET",
        path=_path(engine_id),
        parse=schema.parser(InferenceEngineDetail),
        retry=Retry.SAFE,
    )


def delete(engine_id: str) -> Call[None]:
    """Delete an engine: ``DELETE /v1/engines/{engine_id}``.

    :param engine_id: the engine
    """
    return Call(
        operation="deleteEngineById",
        method="DELETE",
        path=_path(engine_id),
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def deploy(
    engine_id: str, *, project_id: str, training_job_id: str, checkpoint: int, name: str | None = None
) -> Call[DeploymentSummary]:
    """Deploy a checkpoint on an engine: ``POST /v1/engines/{engine_id}/deploy``.

    :param engine_id: the engine
    :param project_id: project of the training job
    :param training_job_id: the training job; the platform calls it ``training_id`` here
    :param checkpoint: number of the checkpoint
    :param name: name for the deployment
    :returns: the deployment
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "project_id": project_id,
        "training_id": training_job_id,
        "checkpoint": checkpoint,
        "name": name,
    }
    return Call(
        operation="deployOnEngine",
        method="POST",
        path=f"{_path(engine_id)}/deploy",
        json=schema.body(DeployOnEngineRequest, arguments),
        parse=schema.parser(DeploymentSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def undeploy(engine_id: str, *, deployment_name: str) -> Call[None]:
    """Remove a deployment from an engine: ``POST /v1/engines/{engine_id}/undeploy``.

    :param engine_id: the engine
    :param deployment_name: name of the deployment, not its id
    :raises ValueError: if an argument is invalid
    """
    return Call(
        operation="unDeployFromEngine",
        method="POST",
        path=f"{_path(engine_id)}/undeploy",
        json=schema.body(UndeployRequest, {"deployment_name": deployment_name}),
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def reactivate(engine_id: str) -> Call[None]:
    """Wake an engine: ``POST /v1/engines/{engine_id}/reactivate``.

    It takes about 8 to 20 minutes. The platform refuses it with 400 if the engine is active.

    :param engine_id: the engine
    """
    return Call(
        operation="reactivateEngineById",
        method="POST",
        path=f"{_path(engine_id)}/reactivate",
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def deactivate(engine_id: str) -> Call[None]:
    """Put an engine to sleep: ``POST /v1/engines/{engine_id}/deactivate``.

    The platform refuses it with 400 if the engine is not active.

    :param engine_id: the engine
    """
    return Call(
        operation="deactivateEngineById",
        method="POST",
        path=f"{_path(engine_id)}/deactivate",
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def _path(engine_id: str) -> str:
    return f"/v1/engines/{schema.path_segment(engine_id, 'engine_id')}"
