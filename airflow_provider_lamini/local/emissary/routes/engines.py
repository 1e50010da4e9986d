"""Inference engines: several deployments of one base model share them."""

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.emissary.deploying import deploy, policy_of
from airflow_provider_lamini.local.emissary.policy import ResourcePolicy
from airflow_provider_lamini.local.emissary.resources import Engine
from airflow_provider_lamini.local.emissary.service import main_name
from airflow_provider_lamini.local.errors import InvalidInputError, ObjectNotFoundError
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.emissary.api.engines import (
    CreateEngineRequest,
    DeployOnEngineRequest,
    InactiveTimeoutConfig,
    UndeployRequest,
)

router = APIRouter(prefix="/v1/engines")


@router.post("", operation_id="createEngine", status_code=201)
def create(body: CreateEngineRequest, platform: PlatformDep) -> Response:
    """Create an engine."""
    model = platform.emissary.base_model(body.base_model)
    if model is None:
        raise InvalidInputError(f"base_model: {body.base_model!r} is not served.")
    task_type = body.task_type or model.task_type
    engine = platform.emissary.serving.create_engine(
        body.name, main_name(model.name), task_type, _policy(body)
    )
    return json_response(views.engine(platform.emissary, engine), 201)


def _policy(body: CreateEngineRequest) -> ResourcePolicy:
    config = body.resource_management_config
    if config is None or config.management_config is None:
        return ResourcePolicy()
    if isinstance(config, InactiveTimeoutConfig):
        return policy_of(config.management_config.inactive_duration, None)
    return policy_of(None, config.management_config)


@router.get("", operation_id="listEngines")
def list_engines(
    platform: PlatformDep, base_model: str | None = None, task_type: str | None = None
) -> Response:
    """List the engines."""
    base = None if base_model is None else main_name(base_model)
    engines = [
        engine
        for engine in platform.emissary.resources.all(Engine)
        if base in (None, engine.base) and task_type in (None, engine.task_type)
    ]
    return json_response([views.engine(platform.emissary, engine) for engine in engines])


@router.get("/{engine_id}", operation_id="getEngine")
def get(engine_id: str, platform: PlatformDep) -> Response:
    """Return an engine and its deployments."""
    return json_response(views.engine_detail(platform.emissary, _engine(platform, engine_id)))


@router.delete("/{engine_id}", operation_id="deleteEngineById", status_code=204)
def delete(engine_id: str, platform: PlatformDep) -> Response:
    """Delete an engine. Its deployments are terminated."""
    platform.emissary.serving.delete_engine(_engine(platform, engine_id))
    return Response(status_code=204)


@router.post("/{engine_id}/deploy", operation_id="deployOnEngine", status_code=201)
def deploy_on_engine(engine_id: str, body: DeployOnEngineRequest, platform: PlatformDep) -> Response:
    """Deploy a checkpoint on an active engine."""
    engine = _engine(platform, engine_id)
    try:
        project = platform.emissary.project(body.project_id)
    except ObjectNotFoundError as error:
        raise InvalidInputError(f"project_id: {error.detail}") from None
    deployment = deploy(
        platform.emissary, project, body.training_id, body.checkpoint, name=body.name, engine=engine
    )
    return json_response(views.deployment(platform.emissary, deployment), 201)


@router.post("/{engine_id}/undeploy", operation_id="unDeployFromEngine", status_code=204)
def undeploy(engine_id: str, body: UndeployRequest, platform: PlatformDep) -> Response:
    """Stop serving a deployment of an engine, by its name."""
    engine = _engine(platform, engine_id)
    for deployment in platform.emissary.serving.deployments_on(engine):
        if deployment.name == body.deployment_name:
            platform.emissary.serving.terminate(deployment)
            return Response(status_code=204)
    raise InvalidInputError(
        f"deployment_name: inference engine {engine.name!r} has no deployment {body.deployment_name!r}."
    )


@router.post("/{engine_id}/reactivate", operation_id="reactivateEngineById", status_code=204)
def reactivate(engine_id: str, platform: PlatformDep) -> Response:
    """Wake an engine that is inactive."""
    is_waking = platform.emissary.serving.wake(_engine(platform, engine_id))
    return Response(status_code=204 if is_waking else 400)


@router.post("/{engine_id}/deactivate", operation_id="deactivateEngineById", status_code=204)
def deactivate(engine_id: str, platform: PlatformDep) -> Response:
    """Put an engine to sleep that is active."""
    is_asleep = platform.emissary.serving.deactivate_engine(_engine(platform, engine_id))
    return Response(status_code=204 if is_asleep else 400)


def _engine(platform: LocalPlatform, engine_id: str) -> Engine:
    return platform.emissary.resources.get(Engine, engine_id)
