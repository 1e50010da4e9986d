"""Datasets: created from rows in the request body, or with a signed URL to upload the rows to."""

import asyncio
import secrets

from fastapi import APIRouter, Request
from pydantic import ValidationError

from airflow_provider_lamini.local.datasets.repository import RowWriter, StoredDataset
from airflow_provider_lamini.local.datasets.signed_urls import UrlSigner
from airflow_provider_lamini.local.datasets.upload_parser import ROWS_FIELD, UploadParser
from airflow_provider_lamini.local.edge.limits import takes_upload
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.multipart import invalid_field
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.blobs import blob_path
from airflow_provider_lamini.local.routes.common import PlatformDep
from airflow_provider_lamini.platforms.lamini.api.datasets import (
    CreateDatasetRequest,
    ExistingDataRequest,
    NumDatapointsRequest,
)

router = APIRouter(prefix="/v1")

PARSE_BYTES = 1 << 20
"""Bytes of the body that are collected before they are parsed."""


@router.get("/get-upload-base-path")
async def upload_base_path(platform: PlatformDep) -> dict[str, str]:
    """Return how to upload rows, ``local`` or ``azure``, and why this platform cannot train on them, if it cannot."""
    answer: dict[str, str] = {"upload_base_path": platform.datasets.base}
    if problem := platform.tuning_problem():
        answer["tuning_unavailable"] = problem
    return answer


@router.post("/local-data")
@takes_upload
async def local_data(request: Request, platform: PlatformDep) -> dict[str, str]:
    """Create a dataset from the rows in the body, which may be larger than memory."""
    with platform.datasets.write_rows() as (dataset_id, writer):
        fields = await _receive_rows(request, writer)
        _check_base(platform, fields)
        if not writer.rows:
            raise invalid_field(
                ROWS_FIELD, "List should have at least 1 item after validation, not 0", "too_short"
            )
    dataset = await asyncio.to_thread(
        platform.datasets.register, dataset_id, writer.rows, is_public=bool(fields.is_public)
    )
    return _response(dataset, dataset.location)


@router.post("/data")
async def create_data(body: CreateDatasetRequest, platform: PlatformDep, request: Request) -> dict[str, str]:
    """Create a dataset and return a signed URL to upload its rows to."""
    _check_base(platform, body)
    if platform.datasets.base != "azure":
        raise ApiError(400, "This platform does not use blobs for uploads: send the rows to /v1/local-data.")
    dataset = await asyncio.to_thread(platform.datasets.create, is_public=bool(body.is_public))
    secret = await asyncio.to_thread(platform.datasets.signing_secret, secrets.token_urlsafe(32))
    path = blob_path(dataset.id)
    return _response(dataset, f"{str(request.base_url).rstrip('/')}{path}?{UrlSigner(secret).query(path)}")


@router.post("/data/num-datapoints")
async def num_datapoints(body: NumDatapointsRequest, platform: PlatformDep) -> dict[str, str | int]:
    """Confirm the number of uploaded rows. The platform counts and checks them."""
    await asyncio.to_thread(platform.datasets.confirm_row_count, body.dataset_id, body.num_datapoints)
    return {"dataset_id": body.dataset_id, "num_datapoints": body.num_datapoints}


@router.post("/existing-data")
async def existing_data(body: ExistingDataRequest, platform: PlatformDep) -> dict[str, str]:
    """Return the location of a dataset."""
    dataset = await asyncio.to_thread(platform.datasets.get, body.dataset_id)
    if dataset.size is None:
        raise ApiError(400, f"Dataset {dataset.id} has no rows yet: nothing was uploaded.")
    return {"dataset_location": dataset.location}


async def _receive_rows(request: Request, writer: RowWriter) -> CreateDatasetRequest:
    """Write the rows of a request's body and return its other fields."""
    parser = UploadParser(writer.add)
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= PARSE_BYTES:
            await asyncio.to_thread(parser.feed, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(_finish, parser, bytes(buffer))
    try:
        return CreateDatasetRequest.model_validate(parser.fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise invalid_field(".".join(map(str, first["loc"])), first["msg"], first["type"]) from None


def _finish(parser: UploadParser, rest: bytes) -> None:
    if rest:
        parser.feed(rest)
    parser.feed(b"")


def _check_base(platform: LocalPlatform, body: CreateDatasetRequest) -> None:
    base = platform.datasets.base
    if body.upload_base_path != base:
        raise ApiError(400, f"upload_base_path must be {base!r}, as returned by /v1/get-upload-base-path.")


def _response(dataset: StoredDataset, location: str) -> dict[str, str]:
    return {"dataset_id": dataset.id, "dataset_location": location}
