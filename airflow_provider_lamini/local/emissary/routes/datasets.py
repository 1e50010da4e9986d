"""Datasets of a project: uploaded as files of at most 5 MB."""

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from airflow_provider_lamini.api.schema import describe_error
from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.emissary.resources import Project, StoredDataset
from airflow_provider_lamini.local.emissary.routes.downloads import dataset_url
from airflow_provider_lamini.local.errors import InvalidInputError
from airflow_provider_lamini.local.multipart import Form, receive_form
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.emissary.api.datasets import MAX_UPLOAD_BYTES, UploadDatasetRequest

router = APIRouter(prefix="/v1/projects/{project_id}/datasets")

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "name": {"type": "string"},
                    },
                    "required": ["file"],
                }
            }
        },
    }
}


@router.post("", operation_id="createDataset", status_code=201, openapi_extra=FORM)
async def create(project_id: str, platform: PlatformDep, request: Request) -> Response:
    """Create a dataset from a file of JSON Lines, a JSON array or CSV."""
    project = await asyncio.to_thread(platform.emissary.project, project_id)
    with platform.temporary_folder() as folder:
        form = await receive_form(request, Path(folder), "file")
        dataset = await asyncio.to_thread(_upload, platform, project, form)
    return json_response(views.dataset(dataset), 201)


def _upload(platform: LocalPlatform, project: Project, form: Form) -> StoredDataset:
    try:
        fields = UploadDatasetRequest.model_validate(form.fields)
    except ValidationError as error:
        raise InvalidInputError(describe_error(error)) from None
    if len(form.files) != 1:
        raise InvalidInputError("file: expected exactly one file.")
    (file,) = form.files
    if file.size > MAX_UPLOAD_BYTES:
        raise InvalidInputError(
            f"file: it has {file.size} bytes; the API accepts at most {MAX_UPLOAD_BYTES}."
        )
    return platform.emissary.upload_dataset(project, fields.name, file.path, file.name)


@router.get("", operation_id="listDatasets")
def list_datasets(project_id: str, platform: PlatformDep) -> Response:
    """List the datasets of a project."""
    project = platform.emissary.project(project_id)
    return json_response(
        [views.dataset(item) for item in platform.emissary.resources.all(StoredDataset, project.id)]
    )


@router.get("/{dataset_id}", operation_id="retrieveDatasetById")
def get(project_id: str, dataset_id: str, platform: PlatformDep, request: Request) -> Response:
    """Return a dataset and a URL of its file."""
    dataset = platform.emissary.resources.get(StoredDataset, dataset_id, project_id)
    return json_response(views.dataset_detail(dataset, dataset_url(platform, request, dataset)))


@router.delete("/{dataset_id}", operation_id="deleteDatasetById", status_code=204)
def delete(project_id: str, dataset_id: str, platform: PlatformDep) -> Response:
    """Delete a dataset."""
    platform.emissary.delete_dataset(platform.emissary.resources.get(StoredDataset, dataset_id, project_id))
    return Response(status_code=204)
