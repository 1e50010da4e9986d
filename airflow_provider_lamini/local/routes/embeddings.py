"""Vectors for texts."""

import asyncio
from itertools import chain

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.jobs.rows import EMBEDDING_ROWS
from airflow_provider_lamini.local.routes.bodies import EmbeddingBody
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, work_on

router = APIRouter()


@router.post("/v1/embedding")
async def embed(body: EmbeddingBody, platform: PlatformOf, request: Request) -> Response:
    """One vector for a text, a list of vectors for a list of texts."""
    await asyncio.to_thread(platform.inference.check_embedding_model, body.model_name)
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    parts = [texts[start : start + EMBEDDING_ROWS] for start in range(0, len(texts), EMBEDDING_ROWS)]
    found = await work_on(
        parts,
        lambda part: platform.inference.embed(part, body.model_name),
        platform.vector_pool,
        request,
        name=f"Texts, part of {EMBEDDING_ROWS} number",
    )
    vectors = list(chain.from_iterable(found))
    return as_answer({"embedding": vectors[0] if isinstance(body.prompt, str) else vectors})
