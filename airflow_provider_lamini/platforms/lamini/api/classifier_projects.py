"""Contents of a classifier project: datasets, jobs, models."""

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, RESULTS, Call, Json, Retry
from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassifierJob, ClassifierModel


def list_projects() -> Call[list[str]]:
    """List the classifier projects of the key: ``GET /v2/classifier/projects``.

    :returns: their names
    """
    return Call(
        operation="list_projects_for_user_v2_classifier_projects_get",
        method="GET",
        path="/v2/classifier/projects",
        parse=lambda content: schema.find_names(schema.decode(content), "project_name", "project", "name"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def list_datasets(project_name: str) -> Call[list[str]]:
    """List a project's datasets: ``GET /v2/classifier/{project_name}/datasets``.

    :param project_name: the project
    :returns: their names
    """
    return Call(
        operation="list_datasets_for_project_v2_classifier__project_name__datasets_get",
        method="GET",
        path=f"/v2/classifier/{schema.path_segment(project_name, 'project_name')}/datasets",
        parse=lambda content: schema.find_names(schema.decode(content), "dataset_name", "dataset", "name"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def list_jobs(project_name: str) -> Call[list[ClassifierJob]]:
    """List a project's jobs: ``GET /v2/classifier/{project_name}/jobs``.

    :param project_name: the project
    """
    return Call(
        operation="list_jobs_for_project_v2_classifier__project_name__jobs_get",
        method="GET",
        path=f"/v2/classifier/{schema.path_segment(project_name, 'project_name')}/jobs",
        parse=schema.list_parser(ClassifierJob, "jobs", "data"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def list_models(project_name: str) -> Call[list[ClassifierModel]]:
    """List a project's models with their metadata: ``GET /v2/classifier/{project_name}/models``.

    :param project_name: the project
    """
    return Call(
        operation="list_models_with_metadata_for_project_v2_classifier__project_name__models_get",
        method="GET",
        path=f"/v2/classifier/{schema.path_segment(project_name, 'project_name')}/models",
        parse=schema.list_parser(ClassifierModel, "models", "data"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def delete_dataset(*, project_name: str, dataset_name: str) -> Call[Json]:
    """Delete a dataset: ``DELETE /v2/classifier/{project_name}/{dataset_name}``.

    Where the first answer is lost, the second attempt may say that there is no such dataset.

    :param project_name: the project
    :param dataset_name: the dataset
    :returns: the platform's response; its structure is not documented
    """
    project = schema.path_segment(project_name, "project_name")
    return Call(
        operation="delete_datasets_for_project_v2_classifier__project_name___dataset_name__delete",
        method="DELETE",
        path=f"/v2/classifier/{project}/{schema.path_segment(dataset_name, 'dataset_name')}",
        parse=lambda content: schema.decode(content) if content.strip() else None,
        retry=Retry.SAFE,
    )


def download_dataset(*, project_name: str, dataset_name: str) -> Call[bytes]:
    """Get a dataset: ``GET /v2/classifier/{project_name}/{dataset_name}/download``.

    A large one is better written to a file, with the client's ``download``.

    :param project_name: the project
    :param dataset_name: the dataset
    :returns: its content as the platform stores it
    """
    project = schema.path_segment(project_name, "project_name")
    return Call(
        operation="download_dataset_for_project_v2_classifier__project_name___dataset_name__download_get",
        method="GET",
        path=f"/v2/classifier/{project}/{schema.path_segment(dataset_name, 'dataset_name')}/download",
        parse=lambda content: content,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )
