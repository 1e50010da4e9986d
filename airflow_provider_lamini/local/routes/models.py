"""The models on this platform, and fetching more."""

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.api.lamini.embeddings import DEFAULT_MODEL
from airflow_provider_lamini.api.lamini.models import DownloadModelRequest
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.jobs.downloads import ModelDownloads, source_of
from airflow_provider_lamini.local.models.catalogue import find
from airflow_provider_lamini.local.models.files import ModelError
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer
from airflow_provider_lamini.local.store import Job

router = APIRouter(prefix="/v1alpha")

_WORDS = {JobState.QUEUED: "requested", JobState.RUNNING: "downloading", JobState.SUCCEEDED: "available"}

Entry = dict[str, str | int | bool | None]


@router.get("/downloaded_models")
@router.get("/downloaded_models/")
async def list_models(platform: PlatformOf) -> Response:
    """The models that are here or on their way."""
    return as_answer(await asyncio.to_thread(lambda: list(_listed(platform).values())))


@router.post("/downloaded_models")
@router.post("/downloaded_models/")
async def download_model(body: DownloadModelRequest, platform: PlatformOf) -> Response:
    """Fetch a model; asked again, say how that stands."""
    return as_answer(await asyncio.to_thread(_download, platform, body))


def _download(platform: Platform, body: DownloadModelRequest) -> Entry:
    known = find(body.hf_model_name)
    name = known.name if known else body.hf_model_name
    with platform.download_lock:
        entry = _listed(platform).get(name)
        if entry is None or entry["status"] == "failed":
            _check(platform, name, body)
            job = platform.runner.submit(
                ModelDownloads.name, {"model_name": name, "model_type": body.model_type}
            )
            entry = _entry(name, body.model_type, _WORDS[job.state])
    return entry


def _check(platform: Platform, name: str, body: DownloadModelRequest) -> None:
    if not platform.can_download:
        raise PlatformError(
            400, f"Model {name!r} is not served by the engine behind this platform: add it there."
        )
    if body.model_type == "embedding" and find(name) is None:
        raise PlatformError(400, "Only embedding models of the local catalogue can be served here.")
    if body.private_hf_token:
        raise PlatformError(
            400, "The local platform takes the hub's token from HF_TOKEN: start it with that."
        )
    try:
        source_of(name)
    except ModelError as error:
        raise PlatformError(400, str(error)) from None


def _listed(platform: Platform) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for job in platform.store.jobs(ModelDownloads.name):
        name = str(job.params["model_name"])
        found[name] = _of_job(name, job, found.get(name))
    vectors = platform.inference.vectors.models()
    texts = [name for name in platform.inference.texts.models() if name != DEFAULT_MODEL]
    # An upstream engine names its models without saying what they are for.
    found |= {name: _entry(name, "embedding", "available") for name in vectors if name not in texts}
    found |= {name: _entry(name, "transformer", "available") for name in texts}
    return found


def _of_job(name: str, job: Job, before: Entry | None) -> Entry:
    attempts = before["download_attempts"] if before else 0
    more = int(attempts or 0) + 1
    status = _WORDS.get(job.state, "failed")
    entry = _entry(name, str(job.params["model_type"]), status)
    return {**entry, "download_attempts": more, "prev_download_error": job.detail}


def _entry(name: str, model_type: str, status: str) -> Entry:
    return {"model_name": name, "model_type": model_type, "is_public": True, "status": status}
