"""Datasets: where rows go, rows that are sent here, and datasets whose rows go to a blob."""

import asyncio
import secrets
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_lamini.local.datasets.incoming import ROWS, RowsReader
from airflow_provider_lamini.local.datasets.shelf import Dataset, Writer
from airflow_provider_lamini.local.datasets.signing import Signer
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.faults import CONTROL_PREFIX
from airflow_provider_lamini.local.multipart import invalid
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.blobs import path_of
from airflow_provider_lamini.local.routes.common import PlatformOf
from airflow_provider_lamini.platforms.lamini.api.datasets import (
    CreateDatasetRequest,
    ExistingDataRequest,
    NumDatapointsRequest,
)

router = APIRouter(prefix="/v1")
control_router = APIRouter(prefix=CONTROL_PREFIX)

BLOCK = 1 << 20
"""Bytes of a body that are gathered before they are worked on."""


class UploadBase(BaseModel):
    """How rows are to come in from now on."""

    model_config = ConfigDict(extra="forbid")

    base: Literal["local", "azure"]


@router.get("/get-upload-base-path")
async def upload_base_path(platform: PlatformOf) -> dict[str, str]:
    """How rows come in."""
    return {"upload_base_path": platform.datasets.base}


@router.post("/local-data")
async def local_data(request: Request, platform: PlatformOf) -> dict[str, str]:
    """Make a dataset of the rows in the body, which may be larger than memory."""
    with platform.datasets.writing() as (dataset_id, writer):
        fields = await _receive(request, writer)
        _check_base(platform, fields)
        if not writer.rows:
            raise invalid(ROWS, "List should have at least 1 item after validation, not 0", "too_short")
    dataset = await asyncio.to_thread(
        platform.datasets.written, dataset_id, writer.rows, is_public=bool(fields.is_public)
    )
    return _answer(dataset, dataset.location)


@router.post("/data")
async def create_data(body: CreateDatasetRequest, platform: PlatformOf, request: Request) -> dict[str, str]:
    """Make a dataset whose rows are to be put to the signed URL in the answer."""
    _check_base(platform, body)
    if platform.datasets.base != "azure":
        raise PlatformError(400, "Rows are not uploaded to a blob here: send them to /v1/local-data.")
    dataset = await asyncio.to_thread(platform.datasets.create, is_public=bool(body.is_public))
    secret = await asyncio.to_thread(platform.datasets.secret, secrets.token_urlsafe(32))
    path = path_of(dataset.id)
    return _answer(dataset, f"{str(request.base_url).rstrip('/')}{path}?{Signer(secret).query(path)}")


@router.post("/data/num-datapoints")
async def num_datapoints(body: NumDatapointsRequest, platform: PlatformOf) -> dict[str, str | int]:
    """Say how many rows were uploaded; they are counted again."""
    await asyncio.to_thread(platform.datasets.count, body.dataset_id, body.num_datapoints)
    return {"dataset_id": body.dataset_id, "num_datapoints": body.num_datapoints}


@router.post("/existing-data")
async def existing_data(body: ExistingDataRequest, platform: PlatformOf) -> dict[str, str]:
    """Where a dataset lies."""
    dataset = await asyncio.to_thread(platform.datasets.get, body.dataset_id)
    if dataset.size is None:
        raise PlatformError(400, f"Dataset {dataset.id} has no rows yet: nothing was uploaded.")
    return {"dataset_location": dataset.location}


@control_router.post("/upload-base")
async def set_upload_base(body: UploadBase, platform: PlatformOf) -> Response:
    """Let rows come in the one way or the other from now on."""
    platform.datasets.base = body.base
    return Response(status_code=204)


async def _receive(request: Request, writer: Writer) -> CreateDatasetRequest:
    reader = RowsReader(writer.add)
    gathered = bytearray()
    async for block in request.stream():
        gathered += block
        if len(gathered) >= BLOCK:
            await asyncio.to_thread(reader.feed, bytes(gathered))
            gathered.clear()
    await asyncio.to_thread(_finish, reader, bytes(gathered))
    try:
        return CreateDatasetRequest.model_validate(reader.fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise invalid(".".join(map(str, first["loc"])), first["msg"], first["type"]) from None


def _finish(reader: RowsReader, rest: bytes) -> None:
    if rest:
        reader.feed(rest)
    reader.feed(b"")


def _check_base(platform: Platform, body: CreateDatasetRequest) -> None:
    base = platform.datasets.base
    if body.upload_base_path != base:
        raise PlatformError(
            400, f"upload_base_path must be {base!r} here, as /v1/get-upload-base-path tells."
        )


def _answer(dataset: Dataset, location: str) -> dict[str, str]:
    return {"dataset_id": dataset.id, "dataset_location": location}
