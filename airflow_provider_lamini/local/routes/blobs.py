"""Blobs: emulates the part of Azure Blob Storage that uploads a dataset to a signed URL, whole or in blocks."""

import asyncio
import base64
import hashlib
import re
import shutil
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import IO, Final
from xml.sax.saxutils import escape

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.datasets.repository import StoredDataset
from airflow_provider_lamini.local.datasets.signed_urls import VERSION, UrlSigner
from airflow_provider_lamini.local.edge.limits import takes_upload
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.middleware import SIGNED_PREFIX
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep

router = APIRouter(include_in_schema=False)

BLOCK_BLOB: Final = "BlockBlob"

MAX_BLOCK_LIST_BYTES: Final = 16 << 20
"""Maximum size of a block list."""

COPY_BYTES: Final = 1 << 20
"""Bytes that are buffered before they are written to disk."""

_LIST_ENTRY: Final = re.compile(rb"<(Latest|Uncommitted|Committed)>([^<]*)</\1>")


def blob_path(dataset_id: str) -> str:
    """Return the path of a dataset's blob: account, container, blob."""
    return f"{SIGNED_PREFIX}datasets/{dataset_id}.jsonl"


class _BlobError(Exception):
    """An error of the blob service, with Azure's error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _authorized_dataset(dataset_id: str, platform: LocalPlatform, request: Request) -> StoredDataset:
    """Return the dataset of a blob after checking the request's signature.

    :raises _BlobError: the signature is invalid, or there is no such dataset
    """
    secret = platform.datasets.signing_secret(uuid.uuid4().hex)
    if not UrlSigner(secret).allows(blob_path(dataset_id), request.query_params):
        raise _BlobError(
            403, "AuthenticationFailed", "The signature is invalid for this blob or has expired."
        )
    try:
        return platform.datasets.get(dataset_id)
    except ApiError:
        raise _BlobError(404, "BlobNotFound", "The specified blob does not exist.") from None


@router.head("/blobs/datasets/{dataset_id}.jsonl")
async def properties(dataset_id: str, platform: PlatformDep, request: Request) -> Response:
    """Return the size of the blob, if it exists."""
    try:
        dataset = await asyncio.to_thread(_authorized_dataset, dataset_id, platform, request)
        size = dataset.size
        if size is None:
            raise _BlobError(404, "BlobNotFound", "The specified blob does not exist.")  # noqa: TRY301 - one handler for all errors
    except _BlobError as error:
        return _error_response(error, with_body=False)
    return Response(None, 200, _headers() | {"x-ms-blob-type": BLOCK_BLOB, "content-length": str(size)})


@router.put("/blobs/datasets/{dataset_id}.jsonl")
@takes_upload
async def put(dataset_id: str, platform: PlatformDep, request: Request) -> Response:
    """Upload the whole blob or one block, or commit a list of blocks."""
    try:
        dataset = await asyncio.to_thread(_authorized_dataset, dataset_id, platform, request)
        component = request.query_params.get("comp")
        if component == "block":
            await _put_block(dataset, platform, request)
        elif component == "blocklist":
            _check_precondition(dataset, request)
            block_list = await _read_block_list(request)
            await asyncio.to_thread(_commit_blocks, dataset, platform, block_list)
        elif component is None:
            _check_precondition(dataset, request)
            await _put_blob(dataset, platform, request)
        else:
            raise _BlobError(400, "InvalidQueryParameterValue", "comp must be block or blocklist.")  # noqa: TRY301 - one handler for all errors
    except _BlobError as error:
        return _error_response(error)
    return Response(None, 201, _headers())


def _check_precondition(dataset: StoredDataset, request: Request) -> None:
    if request.headers.get("if-none-match") == "*" and dataset.size is not None:
        raise _BlobError(409, "BlobAlreadyExists", "The specified blob already exists.")


async def _put_blob(dataset: StoredDataset, platform: LocalPlatform, request: Request) -> None:
    kind = request.headers.get("x-ms-blob-type")
    if kind is None:
        raise _BlobError(400, "MissingRequiredHeader", "The header x-ms-blob-type is missing.")
    if kind != BLOCK_BLOB:
        raise _BlobError(400, "InvalidHeaderValue", f"x-ms-blob-type must be {BLOCK_BLOB}.")
    with platform.datasets.write_atomically(dataset.path) as file:
        await _copy_body(request, file)


async def _put_block(dataset: StoredDataset, platform: LocalPlatform, request: Request) -> None:
    path = _block_path(platform, dataset, request.query_params.get("blockid", ""))
    path.parent.mkdir(exist_ok=True)
    with platform.datasets.write_atomically(path) as file:
        await _copy_body(request, file)


def _commit_blocks(dataset: StoredDataset, platform: LocalPlatform, block_list: bytes) -> None:
    ids = [block_id.decode(errors="replace") for _, block_id in _LIST_ENTRY.findall(block_list)]
    blocks = [_block_path(platform, dataset, block_id) for block_id in ids]
    if not blocks or not all(block.exists() for block in blocks):
        raise _BlobError(
            400, "InvalidBlockList", "The block list is empty or contains blocks that were not uploaded."
        )
    with platform.datasets.write_atomically(dataset.path) as file:
        for block in blocks:
            with block.open("rb") as content:
                shutil.copyfileobj(content, file, COPY_BYTES)
    shutil.rmtree(platform.datasets.block_folder(dataset))


def _block_path(platform: LocalPlatform, dataset: StoredDataset, block_id: str) -> Path:
    """Return the file of a block. Its name is a hash, because the client may choose any id."""
    try:
        decoded = base64.b64decode(block_id, validate=True)
    except ValueError:
        decoded = b""
    if not decoded:
        raise _BlobError(400, "InvalidQueryParameterValue", "A block's id must be Base64.")
    return platform.datasets.block_folder(dataset) / hashlib.sha256(decoded).hexdigest()


async def _copy_body(request: Request, file: IO[bytes]) -> None:
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= COPY_BYTES:
            await asyncio.to_thread(file.write, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(file.write, bytes(buffer))


async def _read_block_list(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BLOCK_LIST_BYTES:
            raise _BlobError(413, "RequestBodyTooLarge", "The block list is too long.")
    return bytes(body)


def _headers() -> dict[str, str]:
    now = format_datetime(datetime.now(tz=UTC), usegmt=True)
    tag = uuid.uuid4().hex
    return {"etag": f'"{tag}"', "last-modified": now, "x-ms-request-id": tag, "x-ms-version": VERSION}


def _error_response(error: _BlobError, *, with_body: bool = True) -> Response:
    body = f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
    headers = {"x-ms-error-code": error.code, "x-ms-version": VERSION}
    text = f'<?xml version="1.0" encoding="utf-8"?>{body}' if with_body else None
    return Response(text, error.status, headers, "application/xml")
