"""Projects: each holds datasets, training jobs and deployments."""

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.emissary.resources import Project
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.emissary.api.projects import CreateProjectRequest

router = APIRouter(prefix="/v1/projects")


@router.post("", operation_id="createProject", status_code=201)
def create(platform: PlatformDep, body: CreateProjectRequest | None = None) -> Response:
    """Create a project."""
    project = platform.emissary.create_project(None if body is None else body.name)
    return json_response(views.project(project), 201)


@router.get("", operation_id="listProjects")
def list_projects(platform: PlatformDep) -> Response:
    """List the projects."""
    return json_response([views.project(item) for item in platform.emissary.resources.all(Project)])


@router.get("/{project_id}", operation_id="retrieveProjectById")
def get(project_id: str, platform: PlatformDep) -> Response:
    """Return a project and what it holds."""
    return json_response(views.project_detail(platform.emissary, platform.emissary.project(project_id)))


@router.delete("/{project_id}", operation_id="deleteProjectById", status_code=204)
def delete(project_id: str, platform: PlatformDep) -> Response:
    """Delete a project and everything that it holds."""
    platform.emissary.delete_project(project_id)
    return Response(status_code=204)
