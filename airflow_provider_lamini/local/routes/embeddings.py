"""Embeddings: direct and in batches."""

import asyncio
from itertools import chain

from fastapi import APIRouter, Request
from pydantic import model_validator
from starlette.responses import Response

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import EMBEDDING_BATCH_SIZE
from airflow_provider_lamini.local.jobs.row_jobs import EmbeddingJobs
from airflow_provider_lamini.local.routes.common import (
    PlatformDep,
    encoded_response,
    find_job,
    json_response,
    listed,
    run_in_pool,
)
from airflow_provider_lamini.platforms.lamini.api.batches import BatchEmbeddingsRequest
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL, EmbeddingRequest

router = APIRouter()


def _without_nulls(value: object) -> object:
    return (
        {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
    )


class EmbeddingBody(EmbeddingRequest):
    """Texts to embed. Fields that are null get their defaults."""

    _nulls = model_validator(mode="before")(_without_nulls)


@router.post("/v1/embedding")
async def embed(body: EmbeddingBody, platform: PlatformDep, request: Request) -> Response:
    """Return the vector of a text, or a list of vectors for a list of texts."""
    await asyncio.to_thread(platform.inference.check_embedding_model, body.model_name)
    texts = listed(body.prompt)
    batches = [
        texts[start : start + EMBEDDING_BATCH_SIZE] for start in range(0, len(texts), EMBEDDING_BATCH_SIZE)
    ]
    embedded = await run_in_pool(
        batches,
        lambda batch: platform.inference.embed(batch, body.model_name),
        platform.vector_pool,
        request,
        item_name=f"Texts in groups of {EMBEDDING_BATCH_SIZE}, group",
    )
    vectors = list(chain.from_iterable(embedded))
    return json_response({"embedding": vectors[0] if isinstance(body.prompt, str) else vectors})


@router.post("/v1/batch_embeddings")
async def start_batch(body: BatchEmbeddingsRequest, platform: PlatformDep) -> dict[str, str]:
    """Start a batch of texts to embed. A single text may be sent without a list."""
    model_name = body.model_name or DEFAULT_MODEL

    def start() -> str:
        platform.inference.check_embedding_model(model_name)
        job = platform.runner.submit(EmbeddingJobs.name, {"model_name": model_name}, listed(body.prompt))
        return job.id

    return {"id": await asyncio.to_thread(start)}


@router.get("/v1/batch_embeddings/{job_id}/result")
async def batch_result(job_id: str, platform: PlatformDep) -> Response:
    """Return all vectors once the batch is done, and ``{}`` before."""

    def read() -> bytes:
        job = find_job(platform, job_id, EmbeddingJobs.name)
        if job.ended is None:
            return b"{}"
        if job.state is not JobState.SUCCEEDED:
            raise ApiError(500, f"Batch {job_id} {job.state.value}: {job.detail or 'unknown reason'}")
        return f'{{"embedding":[{platform.store.completed_prefix(job.id).outputs}]}}'.encode()

    return encoded_response(await asyncio.to_thread(read))
