"""Health, versions, and the models that are served or being downloaded."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

import airflow_provider_lamini
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.jobs.downloads import ModelDownloads
from airflow_provider_lamini.local.jobs.store import Job
from airflow_provider_lamini.local.middleware import PUBLIC_PATHS
from airflow_provider_lamini.local.models.catalogue import find
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL
from airflow_provider_lamini.platforms.lamini.api.models import DownloadModelRequest

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()

CLIENT_VERSION = "3.4.6"
"""Version of the official client that this platform is tested with."""

_WORDS = {JobState.QUEUED: "requested", JobState.RUNNING: "downloading", JobState.SUCCEEDED: "available"}

Entry = dict[str, str | int | bool | None]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Return that the platform is running. This endpoint needs no API key."""
    return {"status": "ok"}


@router.get("/v1/version")
async def version(request: Request) -> Response:
    """Return the versions of the platform and the client, and all endpoints."""
    paths = sorted(set(request.app.openapi()["paths"]) - PUBLIC_PATHS)
    api: list[Json] = [{"name": _resource_name(path), "path": path} for path in paths]
    return json_response(
        {"server": airflow_provider_lamini.__version__, "client": CLIENT_VERSION, "api": api}
    )


def _resource_name(path: str) -> str:
    """Return the path segment after the version, which names the resource."""
    segments = [segment for segment in path.split("/") if segment]
    return segments[min(1, len(segments) - 1)]


@router.get("/v1alpha/downloaded_models")
@router.get("/v1alpha/downloaded_models/")
async def list_models(platform: PlatformDep) -> Response:
    """List the models that are served or being downloaded."""
    return json_response(await asyncio.to_thread(lambda: list(_entries(platform).values())))


@router.post("/v1alpha/downloaded_models")
@router.post("/v1alpha/downloaded_models/")
async def download_model(body: DownloadModelRequest, platform: PlatformDep) -> Response:
    """Start to download a model, or return the status of its download."""
    return json_response(await asyncio.to_thread(_download, platform, body))


def _download(platform: LocalPlatform, body: DownloadModelRequest) -> Entry:
    known = find(body.hf_model_name)
    name = known.name if known else body.hf_model_name
    with platform.download_lock:
        entry = _entries(platform).get(name)
        if entry is None or entry["status"] == "failed":
            _check(body)
            job = platform.runner.submit(
                ModelDownloads.name, {"model_name": name, "model_type": body.model_type}
            )
            entry = _entry(name, body.model_type, _WORDS[job.state])
    return entry


def _check(body: DownloadModelRequest) -> None:
    """Check what only this platform refuses; whether the model exists shows when it is downloaded.

    :raises ApiError: the request has a token
    """
    if body.private_hf_token:
        raise ApiError(
            400,
            "The local platform does not accept hub tokens in requests: start it with HF_TOKEN set instead.",
        )


def _entries(platform: LocalPlatform) -> dict[str, Entry]:
    """Return an entry for each model, by name."""
    entries: dict[str, Entry] = {}
    for job in platform.store.jobs(ModelDownloads.name):
        name = str(job.params["model_name"])
        entries[name] = _download_entry(name, job, entries.get(name))
    vectors = platform.inference.vectors.models()
    texts = [name for name in platform.inference.texts.models() if name != DEFAULT_MODEL]
    # An upstream engine lists its models without saying which ones embed.
    entries |= {name: _entry(name, "embedding", "available") for name in vectors if name not in texts}
    entries |= {name: _entry(name, "transformer", "available") for name in texts}
    return entries


def _download_entry(name: str, job: Job, previous: Entry | None) -> Entry:
    attempts = previous["download_attempts"] if previous else 0
    entry = _entry(name, str(job.params["model_type"]), _WORDS.get(job.state, "failed"))
    return {**entry, "download_attempts": int(attempts or 0) + 1, "prev_download_error": job.detail}


def _entry(name: str, model_type: str, status: str) -> Entry:
    return {"model_name": name, "model_type": model_type, "is_public": True, "status": status}
