"""A blob per dataset, written by a signed URL as an Azure block blob: at once, or in blocks and their list."""

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

from airflow_provider_lamini.local.datasets.shelf import Dataset
from airflow_provider_lamini.local.datasets.signing import VERSION, Signer
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.guard import SIGNED_PREFIX
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.common import PlatformOf

router = APIRouter(include_in_schema=False)

BLOCK_BLOB: Final = "BlockBlob"
LIST_BYTES: Final = 16 << 20
COPY_BYTES: Final = 1 << 20

_ENTRY: Final = re.compile(rb"<(Latest|Uncommitted|Committed)>([^<]*)</\1>")


def path_of(dataset_id: str) -> str:
    """The path of a dataset's blob: account, container, blob."""
    return f"{SIGNED_PREFIX}datasets/{dataset_id}.jsonl"


class _RefusedError(Exception):
    """What the blob service says no to, in its own words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _dataset(dataset_id: str, platform: Platform, request: Request) -> Dataset:
    secret = platform.datasets.secret(uuid.uuid4().hex)
    if not Signer(secret).allows(path_of(dataset_id), request.query_params):
        raise _RefusedError(
            403, "AuthenticationFailed", "The signature does not fit the blob, or it has expired."
        )
    try:
        return platform.datasets.get(dataset_id)
    except PlatformError:
        raise _RefusedError(404, "BlobNotFound", "The specified blob does not exist.") from None


@router.head("/blobs/datasets/{dataset_id}.jsonl")
async def properties(dataset_id: str, platform: PlatformOf, request: Request) -> Response:
    """Whether the blob is there, and how large it is."""
    try:
        dataset = await asyncio.to_thread(_dataset, dataset_id, platform, request)
        size = dataset.size
        if size is None:
            raise _RefusedError(404, "BlobNotFound", "The specified blob does not exist.")  # noqa: TRY301 - said in one place
    except _RefusedError as refusal:
        return _refused(refusal, with_body=False)
    return Response(None, 200, _headers() | {"x-ms-blob-type": BLOCK_BLOB, "content-length": str(size)})


@router.put("/blobs/datasets/{dataset_id}.jsonl")
async def put(dataset_id: str, platform: PlatformOf, request: Request) -> Response:
    """Put the whole blob, one block of it, or the list of its blocks."""
    try:
        dataset = await asyncio.to_thread(_dataset, dataset_id, platform, request)
        what = request.query_params.get("comp")
        if what == "block":
            await _put_block(dataset, platform, request)
        elif what == "blocklist":
            _refuse_existing(dataset, request)
            listed = await _body(request)
            await asyncio.to_thread(_put_together, dataset, platform, listed)
        elif what is None:
            _refuse_existing(dataset, request)
            await _put_whole(dataset, platform, request)
        else:
            raise _RefusedError(400, "InvalidQueryParameterValue", "comp must be block or blocklist.")  # noqa: TRY301 - said in one place
    except _RefusedError as refusal:
        return _refused(refusal)
    return Response(None, 201, _headers())


def _refuse_existing(dataset: Dataset, request: Request) -> None:
    if request.headers.get("if-none-match") == "*" and dataset.size is not None:
        raise _RefusedError(409, "BlobAlreadyExists", "The specified blob already exists.")


async def _put_whole(dataset: Dataset, platform: Platform, request: Request) -> None:
    kind = request.headers.get("x-ms-blob-type")
    if kind is None:
        raise _RefusedError(400, "MissingRequiredHeader", "The header x-ms-blob-type is missing.")
    if kind != BLOCK_BLOB:
        raise _RefusedError(400, "InvalidHeaderValue", f"x-ms-blob-type must be {BLOCK_BLOB} here.")
    with platform.datasets.whole_file(dataset.path) as file:
        await _copy(request, file)


async def _put_block(dataset: Dataset, platform: Platform, request: Request) -> None:
    path = _block(platform, dataset, request.query_params.get("blockid", ""))
    path.parent.mkdir(exist_ok=True)
    with platform.datasets.whole_file(path) as file:
        await _copy(request, file)


def _put_together(dataset: Dataset, platform: Platform, listed: bytes) -> None:
    names = [name.decode(errors="replace") for _, name in _ENTRY.findall(listed)]
    blocks = [_block(platform, dataset, name) for name in names]
    if not blocks or not all(block.exists() for block in blocks):
        raise _RefusedError(400, "InvalidBlockList", "The list names no blocks, or blocks that were not put.")
    with platform.datasets.whole_file(dataset.path) as file:
        for block in blocks:
            with block.open("rb") as content:
                shutil.copyfileobj(content, file, COPY_BYTES)
    shutil.rmtree(platform.datasets.blocks(dataset))


def _block(platform: Platform, dataset: Dataset, name: str) -> Path:
    """Where a block lies; its name is the client's and may be anything."""
    try:
        given = base64.b64decode(name, validate=True)
    except ValueError:
        given = b""
    if not given:
        raise _RefusedError(400, "InvalidQueryParameterValue", "A block's id must be Base64.")
    return platform.datasets.blocks(dataset) / hashlib.sha256(given).hexdigest()


async def _copy(request: Request, file: IO[bytes]) -> None:
    gathered = bytearray()
    async for block in request.stream():
        gathered += block
        if len(gathered) >= COPY_BYTES:
            await asyncio.to_thread(file.write, bytes(gathered))
            gathered.clear()
    await asyncio.to_thread(file.write, bytes(gathered))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > LIST_BYTES:
            raise _RefusedError(413, "RequestBodyTooLarge", "The list of blocks is too long.")
    return bytes(body)


def _headers() -> dict[str, str]:
    now = format_datetime(datetime.now(tz=UTC), usegmt=True)
    mark = uuid.uuid4().hex
    return {"etag": f'"{mark}"', "last-modified": now, "x-ms-request-id": mark, "x-ms-version": VERSION}


def _refused(refusal: _RefusedError, *, with_body: bool = True) -> Response:
    body = f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message></Error>"
    headers = {"x-ms-error-code": refusal.code, "x-ms-version": VERSION}
    text = f'<?xml version="1.0" encoding="utf-8"?>{body}' if with_body else None
    return Response(text, refusal.status, headers, "application/xml")
