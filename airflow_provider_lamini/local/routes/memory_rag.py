"""Memory RAG: builds indexes of documents and answers prompts with their passages."""

import asyncio
import shutil
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.edge.limits import takes_upload
from airflow_provider_lamini.local.engines.base import PromptTooLong
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import Completion, CompletionSettings
from airflow_provider_lamini.local.multipart import invalid_field, receive_form
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.rag.documents import UnreadableDocumentError
from airflow_provider_lamini.local.rag.index import Index
from airflow_provider_lamini.local.rag.prompts import (
    DEFAULT_QUERY_SIZE,
    embed_query,
    prompt_with_passages,
    suggest_questions,
)
from airflow_provider_lamini.local.rag.reader import DocumentReader
from airflow_provider_lamini.local.rag.repository import FILES, KIND
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, listed, run_in_pool
from airflow_provider_lamini.local.routes.completions import completions_response
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL
from airflow_provider_lamini.platforms.lamini.api.memory_rag import (
    MemoryRagAddIndexRequest,
    MemoryRagCompletionsRequest,
    MemoryRagJobRequest,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.local.multipart import Form

router = APIRouter(prefix="/alpha/memory-rag")

FILE_FIELD: Final = "files"
ADDED_DOCUMENT: Final = "added text"
"""Document name of passages that were added later."""

TEXT_CPU_SECONDS: Final = 20
"""CPU time for splitting an added text into passages, beside what its size adds."""

_readers = threading.Semaphore(2)
"""Texts that are split at the same time."""


@router.post("/train")
@takes_upload
async def train(request: Request, platform: PlatformDep) -> dict[str, str]:
    """Start to build an index of the files in a form."""
    folder = await asyncio.to_thread(platform.indexes.create_upload_folder)
    try:
        form = await receive_form(request, folder / FILES, FILE_FIELD)
        return await asyncio.to_thread(_start, platform, folder, form)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder)
        raise


def _start(platform: LocalPlatform, folder: Path, form: "Form") -> dict[str, str]:
    model_name = form.fields.get("model_name", "")
    if not model_name:
        raise invalid_field("model_name", "Field required", "missing")
    if not form.files:
        raise invalid_field(FILE_FIELD, "Field required", "missing")
    _check_models(platform, model_name)
    platform.indexes.set_contents(folder, form.files, model_name)
    job = platform.runner.submit(KIND, {"folder": folder.name, "model_name": model_name})
    return {"job_id": job.id, "status": "CREATED"}


@router.get("/status")
async def status_by_query(job_id: str, platform: PlatformDep) -> dict[str, str]:
    """Return the status of an index."""
    return await asyncio.to_thread(_status, platform, job_id)


@router.post("/status")
async def status(body: MemoryRagJobRequest, platform: PlatformDep) -> dict[str, str]:
    """Return the status of an index."""
    return await asyncio.to_thread(_status, platform, body.job_id)


def _status(platform: LocalPlatform, job_id: str) -> dict[str, str]:
    status = platform.indexes.status(job_id)
    detail = {} if status.detail is None else {"detail": status.detail}
    return {"job_id": job_id, "status": status.word, **detail}


@router.get("/training_log/{job_id}")
async def training_log(job_id: str, platform: PlatformDep) -> list[str]:
    """Return the training log of an index, line by line."""
    lines = await asyncio.to_thread(platform.indexes.log, job_id)
    return [
        f"{datetime.fromtimestamp(timestamp, tz=UTC):%Y-%m-%d %H:%M:%S} {line}" for timestamp, line in lines
    ]


@router.post("/completions")
async def complete(body: MemoryRagCompletionsRequest, platform: PlatformDep, request: Request) -> Response:
    """Complete prompts with the passages most similar to them. Return lists if the prompt is a list."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        settings = CompletionSettings(
            model_name=body.model_name or index.model_name,
            output_type=body.output_type,
            max_new_tokens=body.max_new_tokens,
            max_tokens=body.max_tokens,
        )
        await asyncio.to_thread(_check_models, platform, settings.model_name)
        search = _Search(platform, body.job_id, index, body.rag_query_size or DEFAULT_QUERY_SIZE)
        completions = await run_in_pool(
            listed(body.prompt),
            lambda prompt: _complete(search, settings, prompt),
            platform.text_pool,
            request,
        )
    return completions_response(completions, is_list=not isinstance(body.prompt, str))


def _check_models(platform: LocalPlatform, model_name: str) -> None:
    platform.inference.check_text_model(model_name)
    platform.inference.check_embedding_model(DEFAULT_MODEL)


@dataclass(frozen=True, slots=True)
class _Search:
    """The index to search, and the number of passages to find."""

    platform: LocalPlatform
    job_id: str
    index: Index
    size: int


def _complete(search: _Search, settings: CompletionSettings, prompt: str) -> Completion:
    inference = search.platform.inference
    vector = embed_query(inference, prompt)
    results = search.platform.indexes.search(search.job_id, search.index, vector, search.size)
    full_prompt, chat = prompt_with_passages([result.passage for result in results], prompt)
    try:
        return inference.complete(settings, full_prompt, chat=chat)
    except PromptTooLong as error:
        detail = f"With {len(results)} passages: {error} Or lower rag_query_size."
        raise ApiError(400, detail) from None


@router.post("/add-index")
async def add_index(
    body: MemoryRagAddIndexRequest, platform: PlatformDep, request: Request
) -> dict[str, str]:
    """Add a text to an index that is ready."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        passages = await asyncio.to_thread(_read_text, platform, body.prompt)
        if not passages:
            raise ApiError(400, "The prompt contains no text to add.")
        platform.inference.check_embedding_model(DEFAULT_MODEL)
        vectors = await run_in_pool(
            passages,
            lambda passage: platform.inference.embed([passage], DEFAULT_MODEL)[0],
            platform.vector_pool,
            request,
            item_name="Passage",
        )
        new = await asyncio.to_thread(index.add_passages, ADDED_DOCUMENT, passages, vectors)
        await asyncio.to_thread(
            index.add_log_line, f"Added a text: {len(passages)} passages, {new} of them new."
        )
    return {"job_id": body.job_id, "status": "success"}


def _read_text(platform: LocalPlatform, text: str) -> list[str]:
    """Split a text in Markdown into passages.

    :param platform: has room for the text
    :param text: the text
    :raises ApiError: that takes too much time or memory
    """
    with (
        _readers,
        platform.temporary_folder() as folder,
        DocumentReader(cpu_seconds=TEXT_CPU_SECONDS) as reader,
    ):
        path = Path(folder, "text.md")
        path.write_text(text, encoding="utf-8")
        try:
            return reader.read(path, path.name, lambda: None)
        except UnreadableDocumentError as error:
            raise ApiError(400, f"The prompt cannot be added: {error}.") from None


@router.post("/suggestions")
async def suggestions(body: MemoryRagJobRequest, platform: PlatformDep, request: Request) -> Response:
    """Suggest questions that an index can answer, with their answers."""
    index = await asyncio.to_thread(platform.indexes.open, body.job_id)
    with index:
        await asyncio.to_thread(_check_models, platform, index.model_name)
        [pairs] = await run_in_pool(
            [index],
            lambda opened: suggest_questions(platform.inference, opened),
            platform.text_pool,
            request,
        )
    return json_response(
        [
            {f"Question {number}": question, f"Answer {number}": answer}
            for number, (question, answer) in enumerate(pairs, 1)
        ]
    )
