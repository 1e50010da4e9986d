"""Memory RAG: indexes over documents, and answers with what is found in them."""

import asyncio
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.engines.base import PromptTooLong
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.inference import Answer, Task
from airflow_provider_lamini.local.multipart import invalid, receive
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.rag.answers import QUERY_SIZE, prompt_with, query_vector, suggest
from airflow_provider_lamini.local.rag.chunks import passages
from airflow_provider_lamini.local.rag.extract import markdown
from airflow_provider_lamini.local.rag.index import Index
from airflow_provider_lamini.local.rag.indexes import FILES, KIND
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, work_on
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL
from airflow_provider_lamini.platforms.lamini.api.memory_rag import (
    MemoryRagAddIndexRequest,
    MemoryRagCompletionsRequest,
    MemoryRagJobRequest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.multipart import Form

router = APIRouter(prefix="/alpha/memory-rag")

FILE_FIELD: Final = "files"
ADDED: Final = "added text"
"""The name of the document that added passages count to."""


@router.post("/train")
async def train(request: Request, platform: PlatformOf) -> dict[str, str]:
    """Begin to build an index over the files of a form."""
    folder = await asyncio.to_thread(platform.indexes.incoming)
    try:
        form = await receive(request, folder / FILES, FILE_FIELD)
        return await asyncio.to_thread(_start, platform, folder, form)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder)
        raise


def _start(platform: Platform, folder: "Path", form: "Form") -> dict[str, str]:
    model_name = form.fields.get("model_name", "")
    if not model_name:
        raise invalid("model_name", "Field required", "missing")
    if not form.files:
        raise invalid(FILE_FIELD, "Field required", "missing")
    platform.inference.check_text_model(model_name)
    platform.inference.check_embedding_model(DEFAULT_MODEL)
    platform.indexes.expect(folder, form.files, model_name)
    job = platform.runner.submit(KIND, {"folder": folder.name, "model_name": model_name})
    return {"job_id": job.id, "status": "CREATED"}


@router.get("/status")
async def status_by_query(job_id: str, platform: PlatformOf) -> dict[str, str]:
    """How an index stands."""
    return await asyncio.to_thread(_status, platform, job_id)


@router.post("/status")
async def status(body: MemoryRagJobRequest, platform: PlatformOf) -> dict[str, str]:
    """How an index stands."""
    return await asyncio.to_thread(_status, platform, body.job_id)


def _status(platform: Platform, job_id: str) -> dict[str, str]:
    found = platform.indexes.status(job_id)
    detail = {} if found.detail is None else {"detail": found.detail}
    return {"job_id": job_id, "status": found.word, **detail}


@router.get("/training_log/{job_id}")
async def training_log(job_id: str, platform: PlatformOf) -> list[str]:
    """What was noted while an index was built, line by line."""
    lines = await asyncio.to_thread(platform.indexes.log, job_id)
    return [f"{datetime.fromtimestamp(moment, tz=UTC):%Y-%m-%d %H:%M:%S} {line}" for moment, line in lines]


@router.post("/completions")
async def complete(body: MemoryRagCompletionsRequest, platform: PlatformOf, request: Request) -> Response:
    """Answer prompts with the passages that are nearest to them; lists where the prompt was a list."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        what = Task(
            model_name=body.model_name or index.model_name,
            output_type=body.output_type,
            max_new_tokens=body.max_new_tokens,
            max_tokens=body.max_tokens,
        )
        await asyncio.to_thread(_check, platform, what.model_name)
        lookup = _Lookup(platform, body.job_id, index, body.rag_query_size or QUERY_SIZE)
        answers = await work_on(
            [body.prompt] if isinstance(body.prompt, str) else body.prompt,
            lambda prompt: _answer(lookup, what, prompt),
            platform.text_pool,
            request,
        )
    if isinstance(body.prompt, str):
        return as_answer({"outputs": answers[0].output, "finish_reason": answers[0].finish_reason})
    outputs, reasons = [one.output for one in answers], [one.finish_reason for one in answers]
    return as_answer({"outputs": outputs, "finish_reason": reasons})


def _check(platform: Platform, model_name: str) -> None:
    platform.inference.check_text_model(model_name)
    platform.inference.check_embedding_model(DEFAULT_MODEL)


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Where passages are looked up, and how many."""

    platform: Platform
    job_id: str
    index: Index
    size: int


def _answer(lookup: _Lookup, what: Task, prompt: str) -> Answer:
    inference = lookup.platform.inference
    vector = query_vector(inference, prompt)
    found = lookup.platform.indexes.search(lookup.job_id, lookup.index, vector, lookup.size)
    whole, chat = prompt_with([one.passage for one in found], prompt)
    try:
        return inference.complete(what, whole, chat=chat)
    except PromptTooLong as error:
        detail = f"With {len(found)} passages: {error} Or lower rag_query_size."
        raise PlatformError(400, detail) from None


@router.post("/add-index")
async def add_index(body: MemoryRagAddIndexRequest, platform: PlatformOf, request: Request) -> dict[str, str]:
    """Add a text to an index that is ready."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        found = passages(list(markdown(body.prompt)))
        if not found:
            raise PlatformError(400, "The prompt holds no text to add.")
        platform.inference.check_embedding_model(DEFAULT_MODEL)
        vectors = await work_on(
            found,
            lambda passage: platform.inference.embed([passage], DEFAULT_MODEL)[0],
            platform.vector_pool,
            request,
            name="Passage",
        )
        new = await asyncio.to_thread(index.add, ADDED, found, vectors)
        await asyncio.to_thread(index.note, f"Added a text: {len(found)} passages, {new} of them new.")
    return {"job_id": body.job_id, "status": "success"}


@router.post("/suggestions")
async def suggestions(body: MemoryRagJobRequest, platform: PlatformOf, request: Request) -> Response:
    """Questions that an index can answer, with the answers."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        await asyncio.to_thread(_check, platform, index.model_name)
        [pairs] = await work_on(
            [index], lambda one: suggest(platform.inference, one), platform.text_pool, request
        )
    return as_answer(
        [
            {f"Question {number}": question, f"Answer {number}": answer}
            for number, (question, answer) in enumerate(pairs, 1)
        ]
    )
