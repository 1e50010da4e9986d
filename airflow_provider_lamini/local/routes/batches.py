"""Batches: prompts or texts that are worked through in the background."""

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import JobNotFoundError, PlatformError
from airflow_provider_lamini.local.inference import Task
from airflow_provider_lamini.local.jobs.rows import BatchCompletions, BatchEmbeddings
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.bodies import BatchBody, BatchEmbeddingsBody
from airflow_provider_lamini.local.routes.common import PlatformOf, raw_answer
from airflow_provider_lamini.local.routes.results import rows_in_order
from airflow_provider_lamini.local.store import Job
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

router = APIRouter()


@router.post("/v1/batch_completions")
async def start_completions(body: BatchBody, platform: PlatformOf) -> dict[str, str]:
    """Begin a batch of prompts."""
    what = Task(
        model_name=body.model_name,
        output_type=body.output_type,
        max_new_tokens=body.max_new_tokens,
        max_tokens=body.max_tokens,
    )

    def start() -> str:
        platform.inference.check_text_model(what.model_name)
        return platform.runner.submit(BatchCompletions.name, what.as_params(), body.prompt).id

    return {"id": await asyncio.to_thread(start)}


@router.get("/v1/batch_completions/{job_id}/result")
async def completions_result(job_id: str, platform: PlatformOf) -> Response:
    """The rows that are done; the batch is done once every finish reason is set."""

    def read() -> bytes:
        return rows_in_order(platform.store, _job(platform, job_id, BatchCompletions.name))

    return raw_answer(await asyncio.to_thread(read))


@router.post("/v1/batch_embeddings")
async def start_embeddings(body: BatchEmbeddingsBody, platform: PlatformOf) -> dict[str, str]:
    """Begin a batch of texts to embed."""
    model_name = body.model_name or DEFAULT_MODEL
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt

    def start() -> str:
        platform.inference.check_embedding_model(model_name)
        return platform.runner.submit(BatchEmbeddings.name, {"model_name": model_name}, texts).id

    return {"id": await asyncio.to_thread(start)}


@router.get("/v1/batch_embeddings/{job_id}/result")
async def embeddings_result(job_id: str, platform: PlatformOf) -> Response:
    """The vectors, once all are there; nothing before."""

    def read() -> bytes:
        job = _job(platform, job_id, BatchEmbeddings.name)
        if job.ended is None:
            return b"{}"
        if job.state is not JobState.SUCCEEDED:
            raise PlatformError(
                500, f"Batch {job_id} {job.state.value}: {job.detail or 'no reason is known'}"
            )
        return f'{{"embedding":[{platform.store.done_prefix(job.id).outputs}]}}'.encode()

    return raw_answer(await asyncio.to_thread(read))


def _job(platform: Platform, job_id: str, kind: str) -> Job:
    job = platform.store.job(job_id, kind)
    if job is None:
        raise JobNotFoundError(job_id)
    return job
