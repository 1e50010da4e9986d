"""Downloads of datasets and checkpoints by signed URLs, which need no API key."""

import secrets

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from airflow_provider_lamini.local.datasets.signed_urls import UrlSigner
from airflow_provider_lamini.local.emissary.resources import Checkpoint, StoredDataset
from airflow_provider_lamini.local.errors import ApiError, ObjectNotFoundError
from airflow_provider_lamini.local.middleware import SIGNED_PREFIX
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep

router = APIRouter(prefix=f"{SIGNED_PREFIX}emissary", include_in_schema=False)


def dataset_url(platform: LocalPlatform, request: Request, dataset: StoredDataset) -> str:
    """Return a signed URL of a dataset's file.

    :param platform: the platform
    :param request: the request whose host the URL gets
    :param dataset: the dataset
    """
    return _signed_url(platform, request, f"{router.prefix}/datasets/{dataset.id}")


def checkpoint_url(platform: LocalPlatform, request: Request, checkpoint: Checkpoint) -> str:
    """Return a signed URL of a checkpoint's file.

    :param platform: the platform
    :param request: the request whose host the URL gets
    :param checkpoint: the checkpoint
    """
    return _signed_url(platform, request, f"{router.prefix}/checkpoints/{checkpoint.id}")


def _signed_url(platform: LocalPlatform, request: Request, path: str) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{path}?{_signer(platform).query(path)}"


def _signer(platform: LocalPlatform) -> UrlSigner:
    return UrlSigner(platform.datasets.signing_secret(secrets.token_urlsafe(32)))


def _check_signature(platform: LocalPlatform, request: Request) -> None:
    if not _signer(platform).allows(request.url.path, request.query_params):
        raise ApiError(403, "The signature is invalid for this file or has expired.")


@router.get("/datasets/{dataset_id}")
def download_dataset(dataset_id: str, platform: PlatformDep, request: Request) -> Response:
    """Return the file of a dataset, as it was uploaded."""
    _check_signature(platform, request)
    dataset = platform.emissary.resources.get(StoredDataset, dataset_id)
    return FileResponse(platform.emissary.uploaded_file(dataset), media_type="application/octet-stream")


@router.get("/checkpoints/{checkpoint_id}")
def download_checkpoint(checkpoint_id: str, platform: PlatformDep, request: Request) -> Response:
    """Return the file of a checkpoint: a LoRA adapter as GGUF, or a classifier as JSON."""
    _check_signature(platform, request)
    checkpoint = platform.emissary.resources.find(Checkpoint, checkpoint_id)
    if checkpoint is None:
        raise ObjectNotFoundError("checkpoint", checkpoint_id)
    return FileResponse(
        platform.emissary.training.path(checkpoint.file), media_type="application/octet-stream"
    )
