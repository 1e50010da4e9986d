"""Completions: direct, streaming and in batches."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.inference import Completion, CompletionSettings
from airflow_provider_lamini.local.jobs.row_jobs import UNFINISHED_REASON, CompletionJobs
from airflow_provider_lamini.local.jobs.store import Job, JobStore, compact_json
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import (
    PlatformDep,
    encoded_response,
    find_job,
    json_response,
    listed,
    run_in_pool,
)
from airflow_provider_lamini.platforms.lamini.api.batches import BatchCompletionsRequest
from airflow_provider_lamini.platforms.lamini.api.completions import (
    CompletionsRequest,
    CompletionsV1Request,
    StreamingCompletionsRequest,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()


class BatchBody(BatchCompletionsRequest):
    """A batch of completions. A single prompt may be sent without a list."""

    prompt: Annotated[schema.Prompts, BeforeValidator(listed)]  # type: ignore[assignment]


class StreamingBody(StreamingCompletionsRequest):
    """Streaming completions of one prompt or several."""

    prompt: schema.Prompts  # type: ignore[assignment]
    max_tokens: schema.TokenBound | None = None


def _settings(
    body: CompletionsRequest | CompletionsV1Request | StreamingBody | BatchBody,
) -> CompletionSettings:
    return CompletionSettings(
        model_name=body.model_name,
        output_type=body.output_type,
        max_new_tokens=body.max_new_tokens,
        max_tokens=body.max_tokens,
    )


# -- direct


@router.post("/v1/completions")
async def complete_v1(body: CompletionsV1Request, platform: PlatformDep, request: Request) -> Response:
    """Complete prompts. Return the text as ``output``, or the object itself with an output type."""
    completions = await _complete(body, platform, request)
    outputs: list[Json] = [completion.output for completion in completions]
    if body.output_type is None:
        outputs = [{"output": output} for output in outputs]
    return json_response(outputs[0] if isinstance(body.prompt, str) else outputs)


@router.post("/v2/completions")
async def complete_v2(body: CompletionsRequest, platform: PlatformDep, request: Request) -> Response:
    """Complete prompts. Return outputs and finish reasons, as lists if the prompt is a list."""
    completions = await _complete(body, platform, request)
    return completions_response(completions, is_list=not isinstance(body.prompt, str))


def completions_response(completions: list[Completion], *, is_list: bool) -> Response:
    """Return outputs and finish reasons.

    :param completions: the completions
    :param is_list: whether to return lists; otherwise there is exactly one completion
    """
    if not is_list:
        return json_response(
            {"outputs": completions[0].output, "finish_reason": completions[0].finish_reason}
        )
    outputs = [completion.output for completion in completions]
    reasons = [completion.finish_reason for completion in completions]
    return json_response({"outputs": outputs, "finish_reason": reasons})


async def _complete(
    body: CompletionsRequest | CompletionsV1Request, platform: LocalPlatform, request: Request
) -> list[Completion]:
    settings = _settings(body)
    await asyncio.to_thread(platform.inference.check_text_model, settings.model_name)
    return await run_in_pool(
        listed(body.prompt),
        lambda prompt: platform.inference.complete(settings, prompt),
        platform.text_pool,
        request,
    )


# -- streaming


@router.post("/v3/streaming_completions")
async def start_streaming(body: StreamingBody, platform: PlatformDep) -> dict[str, str]:
    """Start to complete prompts. The text can be read while it is generated."""
    return await asyncio.to_thread(_start, platform, platform.streaming_completions.name, body)


@router.get("/v3/streaming_completions/{job_id}/result")
async def streaming_result(job_id: str, platform: PlatformDep) -> Response:
    """Return the text generated so far. The job is done when every finish reason is set."""

    def read() -> bytes:
        job = find_job(platform, job_id, platform.streaming_completions.name)
        is_typed = job.params["output_type"] is not None
        texts = {} if is_typed else platform.streaming_completions.partial_texts(job_id)
        return partial_results(platform.store, job, texts)

    return encoded_response(await asyncio.to_thread(read))


def _start(platform: LocalPlatform, kind: str, body: StreamingBody | BatchBody) -> dict[str, str]:
    settings = _settings(body)
    platform.inference.check_text_model(settings.model_name)
    return {"id": platform.runner.submit(kind, settings.to_params(), listed(body.prompt)).id}


# -- batches


@router.post("/v1/batch_completions")
async def start_batch(body: BatchBody, platform: PlatformDep) -> dict[str, str]:
    """Start a batch of prompts."""
    return await asyncio.to_thread(_start, platform, CompletionJobs.name, body)


@router.get("/v1/batch_completions/{job_id}/result")
async def batch_result(job_id: str, platform: PlatformDep) -> Response:
    """Return the completed rows. The batch is done when every finish reason is set."""

    def read() -> bytes:
        return batch_results(platform.store, find_job(platform, job_id, CompletionJobs.name))

    return encoded_response(await asyncio.to_thread(read))


def batch_results(store: JobStore, job: Job) -> bytes:
    """Encode a batch's outputs and finish reasons, with null for incomplete rows.

    While the batch runs, rows after the first incomplete one count as incomplete, too. Clients count the
    completed rows and read that many from the start.

    :return: ``{}`` before the batch has started
    """
    if job.state is JobState.QUEUED and not job.done:
        return b"{}"
    if job.ended is not None and job.done < job.total:
        return partial_results(store, job, {})
    prefix = store.completed_prefix(job.id)
    missing = ["null"] * (job.total - prefix.rows)
    outputs, reasons = ([joined] if prefix.rows else [] for joined in (prefix.outputs, prefix.reasons))
    return _encode_results([*outputs, *missing], [*reasons, *missing])


def partial_results(store: JobStore, job: Job, texts: dict[int, str]) -> bytes:
    """Encode outputs and finish reasons of all completed rows, and the partial texts of others.

    :param store: holds the results
    :param job: the job as stored
    :param texts: text generated so far, by row
    :return: ``{}`` before the job has started
    """
    if job.state is JobState.QUEUED and not job.done:
        return b"{}"
    unfinished = None if job.ended is None else UNFINISHED_REASON.get(job.state, "error")
    outputs = [compact_json(texts.get(row)) for row in range(job.total)]
    reasons = [compact_json(unfinished)] * job.total
    for result in store.results(job.id):
        outputs[result.row], reasons[result.row] = result.output, compact_json(result.finish_reason)
    return _encode_results(outputs, reasons)


def _encode_results(outputs: list[str], reasons: list[str]) -> bytes:
    return f'{{"outputs":[{",".join(outputs)}],"finish_reason":[{",".join(reasons)}]}}'.encode()
