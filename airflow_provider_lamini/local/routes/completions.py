"""Text for prompts, at once or as it grows."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.errors import JobNotFoundError
from airflow_provider_lamini.local.inference import Answer, Task
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.bodies import StreamingBody
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, raw_answer, work_on
from airflow_provider_lamini.local.routes.results import rows_so_far
from airflow_provider_lamini.platforms.lamini.api.completions import CompletionsRequest, CompletionsV1Request

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()


@router.post("/v1/completions")
async def complete_v1(body: CompletionsV1Request, platform: PlatformOf, request: Request) -> Response:
    """Answer prompts: the text under ``output``, or the object itself where there is an output type."""
    answers = await _answers(body, platform, request)
    found: list[Json] = [answer.output for answer in answers]
    if body.output_type is None:
        found = [{"output": output} for output in found]
    return as_answer(found[0] if isinstance(body.prompt, str) else found)


@router.post("/v2/completions")
async def complete_v2(body: CompletionsRequest, platform: PlatformOf, request: Request) -> Response:
    """Answer prompts, and say of each answer why it ended; lists where the prompt was a list."""
    answers = await _answers(body, platform, request)
    if isinstance(body.prompt, str):
        return as_answer({"outputs": answers[0].output, "finish_reason": answers[0].finish_reason})
    outputs, reasons = [one.output for one in answers], [one.finish_reason for one in answers]
    return as_answer({"outputs": outputs, "finish_reason": reasons})


@router.post("/v3/streaming_completions")
async def start_streaming(body: StreamingBody, platform: PlatformOf) -> dict[str, str]:
    """Begin to answer prompts whose text can be read as it grows."""
    what = Task(
        model_name=body.model_name,
        output_type=body.output_type,
        max_new_tokens=body.max_new_tokens,
        max_tokens=body.max_tokens,
    )
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    return await asyncio.to_thread(_start, platform, what, prompts)


def _start(platform: Platform, what: Task, prompts: list[str]) -> dict[str, str]:
    platform.inference.check_text_model(what.model_name)
    return {"id": platform.runner.submit(platform.streams.name, what.as_params(), prompts).id}


@router.get("/v3/streaming_completions/{job_id}/result")
async def streaming_result(job_id: str, platform: PlatformOf) -> Response:
    """The text so far; done once every finish reason is set."""
    return raw_answer(await asyncio.to_thread(_streamed, platform, job_id))


def _streamed(platform: Platform, job_id: str) -> bytes:
    job = platform.store.job(job_id, platform.streams.name)
    if job is None:
        raise JobNotFoundError(job_id)
    typed = job.params["output_type"] is not None
    texts = {} if typed else platform.streams.texts(job_id)
    return rows_so_far(platform.store, job, texts)


async def _answers(
    body: CompletionsRequest | CompletionsV1Request, platform: Platform, request: Request
) -> list[Answer]:
    what = Task(
        model_name=body.model_name,
        output_type=body.output_type,
        max_new_tokens=body.max_new_tokens,
        max_tokens=body.max_tokens,
    )
    await asyncio.to_thread(platform.inference.check_text_model, what.model_name)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    return await work_on(
        prompts, lambda prompt: platform.inference.complete(what, prompt), platform.text_pool, request
    )
