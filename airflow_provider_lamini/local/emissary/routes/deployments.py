"""Deployments of a project: checkpoints and base models that answer requests."""

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.emissary.deploying import deploy, policy_of
from airflow_provider_lamini.local.emissary.resources import Deployment
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.emissary.api.deployments import CreateDeploymentRequest

router = APIRouter(prefix="/v1/projects/{project_id}/deployments")


@router.post("", operation_id="createDeployment", status_code=201)
def create(project_id: str, body: CreateDeploymentRequest, platform: PlatformDep) -> Response:
    """Deploy a checkpoint or a base model."""
    deployment = deploy(
        platform.emissary,
        platform.emissary.project(project_id),
        body.training_job_id,
        body.checkpoint,
        name=body.name,
        description=body.description,
        policy=policy_of(body.inactive_timeout, body.schedule),
    )
    return json_response(views.deployment(platform.emissary, deployment), 201)


@router.get("", operation_id="listDeployments")
def list_deployments(project_id: str, platform: PlatformDep) -> Response:
    """List the deployments of a project."""
    project = platform.emissary.project(project_id)
    deployments = platform.emissary.resources.all(Deployment, project.id)
    return json_response([views.deployment(platform.emissary, item) for item in deployments])


@router.get("/{deployment_id}", operation_id="retrieveDeploymentById")
def get(project_id: str, deployment_id: str, platform: PlatformDep) -> Response:
    """Return a deployment."""
    deployment = _deployment(platform, project_id, deployment_id)
    return json_response(views.deployment_detail(platform.emissary, deployment))


@router.delete("/{deployment_id}", operation_id="deleteDeploymentById", status_code=204)
def delete(project_id: str, deployment_id: str, platform: PlatformDep) -> Response:
    """Stop serving a deployment, and delete it."""
    platform.emissary.serving.delete_deployment(_deployment(platform, project_id, deployment_id))
    return Response(status_code=204)


@router.post("/{deployment_id}/reactivate", operation_id="reactivateDeploymentById", status_code=204)
def reactivate(project_id: str, deployment_id: str, platform: PlatformDep) -> Response:
    """Wake a deployment that is deactivated."""
    is_waking = platform.emissary.serving.wake(_deployment(platform, project_id, deployment_id))
    return Response(status_code=204 if is_waking else 400)


def _deployment(platform: LocalPlatform, project_id: str, deployment_id: str) -> Deployment:
    return platform.emissary.resources.get(Deployment, deployment_id, project_id)
