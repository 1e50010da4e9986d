"""Projects: each holds datasets, training jobs and deployments."""

from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Retry
from airflow_provider_lamini.platforms.emissary.api.datasets import DatasetSummary
from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
from airflow_provider_lamini.platforms.emissary.api.fields import ListOf, parse_no_content
from airflow_provider_lamini.platforms.emissary.api.training import TrainingJobSummary


class CreateProjectRequest(schema.Request):
    """The body of ``POST /v1/projects``."""

    name: str | None = Field(default=None, min_length=1)


class ProjectSummary(schema.Response):
    """A project in a list."""

    id: schema.Id
    name: str | None = None


class ProjectDetail(ProjectSummary):
    """A project and what it holds."""

    datasets: ListOf[DatasetSummary]
    training_jobs: ListOf[TrainingJobSummary]
    deployments: ListOf[DeploymentSummary]


def create(name: str | None = None) -> Call[ProjectSummary]:
    """Create a project: ``POST /v1/projects``.

    :param name: name for the project
    :returns: the project
    :raises ValueError: if an argument is invalid
    """
    return Call(
        operation="createProject",
        method="POST",
        path="/v1/projects",
        json=schema.body(CreateProjectRequest, {"name": name}) or None,
        parse=schema.parser(ProjectSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_all() -> Call[list[ProjectSummary]]:
    """List the projects of the key: ``GET /v1/projects``."""
    return Call(
        operation="listProjects",
        method="GET",
        path="/v1/projects",
        parse=schema.list_parser(ProjectSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def project(project_id: str) -> Call[ProjectDetail]:
    """Get a project and what it holds: ``GET /v1/projects/{project_id}``.

    :param project_id: the project
    """
    return Call(
        operation="retrieveProjectById",
        method="GET",
        path=f"/v1/projects/{schema.path_segment(project_id, 'project_id')}",
        parse=schema.parser(ProjectDetail),
        retry=Retry.SAFE,
    )


def delete(project_id: str) -> Call[None]:
    """Delete a project: ``DELETE /v1/projects/{project_id}``.

    :param project_id: the project
    """
    return Call(
        operation="deleteProjectById",
        method="DELETE",
        path=f"/v1/projects/{schema.path_segment(project_id, 'project_id')}",
        parse=parse_no_content,
        retry=Retry.SAFE,
    )
