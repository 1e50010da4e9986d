"""Datasets of a project: files that models learn from and are tested on."""

from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, FilePart, Multipart, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import UnixTime, parse_no_content

MAX_UPLOAD_BYTES = 5_000_000
"""Maximum size of a file that the API accepts: 5 MB."""


class UploadDatasetRequest(schema.Request):
    """The form fields of ``POST /v1/projects/{project_id}/datasets`` besides the file."""

    name: str | None = Field(default=None, min_length=1)


class DatasetSummary(schema.Response):
    """A dataset in a list."""

    id: schema.Id
    name: str | None = None
    created_at: UnixTime | None = None
    is_uploaded: bool | None = None
    """Whether it can be used."""


class DatasetDetail(DatasetSummary):
    """A dataset."""

    dataset_download_url: str | None = Field(default=None, repr=False)
    """Where its file is: a URL of another host that needs no key. Whoever has the URL can read the file."""
    upload_by: str | None = None
    updated_at: UnixTime | None = None


def upload(project_id: str, *, file: FilePart, name: str | None = None) -> Call[DatasetSummary]:
    """Upload a dataset: ``POST /v1/projects/{project_id}/datasets``, a form with one file.

    :param project_id: the project
    :param file: the file, at most :data:`MAX_UPLOAD_BYTES`; it is read in blocks when it is sent
    :param name: name for the dataset
    :returns: the dataset; it can be used once ``is_uploaded`` is true
    :raises ValueError: if an argument is invalid
    """
    fields = schema.body(UploadDatasetRequest, {"name": name})
    return Call(
        operation="createDataset",
        method="POST",
        path=_path(project_id),
        multipart=Multipart({key: str(value) for key, value in fields.items()}, [file], file_field="file"),
        parse=schema.parser(DatasetSummary),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def list_all(project_id: str) -> Call[list[DatasetSummary]]:
    """List the datasets of a project: ``GET /v1/projects/{project_id}/datasets``.

    :param project_id: the project
    """
    return Call(
        operation="listDatasets",
        method="GET",
        path=_path(project_id),
        parse=schema.list_parser(DatasetSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def dataset(project_id: str, dataset_id: str) -> Call[DatasetDetail]:
    """Get a dataset: ``GET /v1/projects/{project_id}/datasets/{dataset_id}``.

    :param project_id: the project
    :param dataset_id: the dataset
    """
    return Call(
        operation="retrieveDatasetById",
        method="GET",
        path=_item_path(project_id, dataset_id),
        parse=schema.parser(DatasetDetail),
        retry=Retry.SAFE,
    )


def delete(project_id: str, dataset_id: str) -> Call[None]:
    """Delete a dataset: ``DELETE /v1/projects/{project_id}/datasets/{dataset_id}``.

    :param project_id: the project
    :param dataset_id: the dataset
    """
    return Call(
        operation="deleteDatasetById",
        method="DELETE",
        path=_item_path(project_id, dataset_id),
        parse=parse_no_content,
        retry=Retry.SAFE,
    )


def _path(project_id: str) -> str:
    return f"/v1/projects/{schema.path_segment(project_id, 'project_id')}/datasets"


def _item_path(project_id: str, dataset_id: str) -> str:
    return f"{_path(project_id)}/{schema.path_segment(dataset_id, 'dataset_id')}"
