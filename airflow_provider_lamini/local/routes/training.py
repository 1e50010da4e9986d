"""Tuning jobs: started, looked at, cancelled, resumed, compared with their base model."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field, field_validator
from starlette.responses import Response

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.api.lamini.training import TrainRequest
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.datasets.shelf import Dataset
from airflow_provider_lamini.local.engines.base import EngineUnavailable
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.inference import Task
from airflow_provider_lamini.local.models.catalogue import VECTORS, find
from airflow_provider_lamini.local.multipart import invalid
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, work_on
from airflow_provider_lamini.local.tuning.arguments import LocalFinetuneArgs
from airflow_provider_lamini.local.tuning.repository import KIND, TunedModel, TuningJob
from airflow_provider_lamini.local.tuning.runner import CREATED, latest_runs, resume_count, run_id
from airflow_provider_lamini.local.tuning.trainer import TrainingUnavailable

router = APIRouter(prefix="/v1/train")

COMPARED_ROWS: Final = 5
"""Inputs of the dataset that a tuned model and its base model are compared on."""

COMPARED_TOKENS: Final = 64

MOST_MODELS: Final = 64
"""Tuned models that are kept; each is loaded beside its base model."""

LARGEST_NUMBER: Final = (1 << 63) - 1

JobNumber = Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]
"""The id of a job."""


class TrainBody(TrainRequest):
    """What is to be tuned on what."""

    finetune_args: LocalFinetuneArgs | None = None
    custom_model_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @field_validator("custom_model_name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("Input should have no control characters")
        return value


@router.post("")
async def train(body: TrainBody, platform: PlatformOf) -> dict[str, str | int]:
    """Begin to tune a model."""
    number = await asyncio.to_thread(_start, platform, body)
    return {"job_id": number, "status": CREATED}


@router.get("/jobs")
async def list_jobs(platform: PlatformOf) -> Response:
    """All jobs, the oldest first."""

    def read() -> list[dict[str, Json]]:
        runs = latest_runs(platform.store)
        return [platform.tuning.describe(job, runs.get(job.number)) for job in platform.tunings.all()]

    return as_answer(await asyncio.to_thread(read))


@router.post("/jobs/cancel")
async def cancel_all(platform: PlatformOf) -> Response:
    """Cancel every job that has not ended."""

    def end() -> list[int]:
        runs = latest_runs(platform.store).items()
        return [number for number, run in runs if platform.runner.end(run.id, JobState.CANCELLED)]

    return as_answer({"status": "CANCELLED", "job_ids": await asyncio.to_thread(end)})


@router.get("/jobs/{job_id}")
async def job(job_id: JobNumber, platform: PlatformOf) -> Response:
    """How a job stands, with its history."""

    def read() -> dict[str, Json]:
        known = platform.tunings.get(job_id)
        return platform.tuning.describe(known, latest_runs(platform.store).get(job_id))

    return as_answer(await asyncio.to_thread(read))


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: JobNumber, platform: PlatformOf) -> dict[str, str]:
    """Cancel a job; one that has ended stays as it is. It keeps its checkpoints."""

    def end() -> str:
        known = platform.tunings.get(job_id)
        run = latest_runs(platform.store).get(job_id)
        if run is not None and platform.runner.end(run.id, JobState.CANCELLED):
            run = latest_runs(platform.store).get(job_id)
        return platform.tuning.status(known, run)

    return {"status": await asyncio.to_thread(end)}


@router.post("/jobs/{job_id}/resume")
async def resume(job_id: JobNumber, platform: PlatformOf) -> dict[str, str]:
    """Let a job that did not end well go on from its checkpoint."""

    def go_on() -> str:
        known = platform.tunings.get(job_id)
        _check_available(platform)
        with platform.tunings.lock:
            run = latest_runs(platform.store).get(job_id)
            if run is None or run.state not in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
                word = platform.tuning.status(known, run)
                raise PlatformError(
                    400,
                    f"Job {job_id} is {word}: only one that failed, was cancelled or timed out is resumed.",
                )
            again = platform.runner.submit(KIND, {}, job_id=run_id(job_id, resume_count(run) + 1))
        return platform.tuning.status(known, again)

    return {"status": await asyncio.to_thread(go_on)}


@router.get("/jobs/{job_id}/eval")
async def compare(job_id: JobNumber, platform: PlatformOf, request: Request) -> Response:
    """What the tuned model and its base model answer to some rows of the dataset."""
    model, inputs = await asyncio.to_thread(_compared, platform, job_id)
    names = (model.base, model.name)

    def answer(item: tuple[str, str]) -> str:
        name, prompt = item
        what = Task(model_name=name, max_new_tokens=COMPARED_TOKENS)
        return str(platform.inference.complete(what, prompt).output)

    items = [(name, prompt) for prompt in inputs for name in names]
    outputs = iter(await work_on(items, answer, platform.text_pool, request, name="Row"))
    results = [
        {"input": prompt, "outputs": [{"model_name": name, "output": next(outputs)} for name in names]}
        for prompt in inputs
    ]
    return as_answer({"job_id": job_id, "eval_results": results})


def _start(platform: Platform, body: TrainBody) -> int:
    """Check what was asked for, and start the job.

    :raises PlatformError: it cannot be done
    """
    base = _base_model(platform, body.model_name)
    _check_available(platform)
    dataset = _dataset(platform, body)
    arguments = {} if body.finetune_args is None else body.finetune_args.model_dump(exclude_unset=True)
    with platform.tunings.lock:
        if len(platform.tunings.models()) >= MOST_MODELS:
            raise PlatformError(
                400,
                f"{MOST_MODELS} tuned models are kept here already. Delete adapters that nobody needs from the folder "
                "tuning/models in the platform's data folder, and start it again.",
            )
        known = platform.tunings.create(
            base, dataset.id, body.custom_model_name, arguments, is_public=bool(body.is_public)
        )
        platform.runner.submit(KIND, {}, job_id=run_id(known.number, 0))
    return known.number


def _base_model(platform: Platform, name: str) -> str:
    """The name that a base model is served under first.

    :raises PlatformError: it cannot be tuned
    :raises EngineError: it is not served
    """
    if any(model.name == name for model in platform.tunings.models()):
        raise PlatformError(400, f"Model {name!r} is a tuned model, and cannot be tuned again.")
    if find(name) is VECTORS:
        raise PlatformError(400, f"Model {name!r} makes vectors, and cannot be tuned.")
    platform.inference.check_text_model(name)
    try:
        platform.texts.weights(name)
    except EngineUnavailable as error:
        raise PlatformError(400, str(error)) from None
    known = find(name)
    return known.name if known else name


def _check_available(platform: Platform) -> None:
    """Return if tuning can be done here.

    :raises PlatformError: it cannot
    """
    try:
        platform.trainer.check_available()
    except TrainingUnavailable as error:
        raise PlatformError(400, str(error)) from None


def _dataset(platform: Platform, body: TrainBody) -> Dataset:
    """The dataset to learn from; of rows in the body one is made.

    :raises PlatformError: there is none, it has no rows, or the body names two
    """
    named = body.dataset_id is not None or body.upload_file_path is not None
    if named == (body.data is not None):
        raise invalid("dataset_id", "Exactly one of dataset_id and data is needed", "missing")
    if body.data is not None:
        return _inline(platform, body.data, is_public=bool(body.is_public))
    found = [] if body.dataset_id is None else [platform.datasets.get(body.dataset_id)]
    if body.upload_file_path is not None:
        found.append(platform.datasets.at(body.upload_file_path))
    if len({dataset.id for dataset in found}) > 1:
        raise PlatformError(400, "upload_file_path is another dataset's than dataset_id.")
    if not found[0].size:
        raise PlatformError(400, f"Dataset {found[0].id} has no rows yet: nothing was uploaded.")
    return found[0]


def _inline(platform: Platform, rows: list[dict[str, Json]], *, is_public: bool) -> Dataset:
    if not rows:
        raise invalid("data", "List should have at least 1 item after validation, not 0", "too_short")
    with platform.datasets.writing() as (dataset_id, writer):
        for row in rows:
            writer.add(row)
    return platform.datasets.written(dataset_id, writer.rows, is_public=is_public)


def _compared(platform: Platform, number: int) -> tuple[TunedModel, list[str]]:
    """A job's model, and the inputs to compare it on.

    :raises PlatformError: there is no model yet
    """
    known: TuningJob = platform.tunings.get(number)
    model = platform.tunings.model_of(number)
    if model is None:
        word = platform.tuning.status(known, latest_runs(platform.store).get(number))
        raise PlatformError(400, f"Job {number} has no model to evaluate, current status: {word}.")
    inputs: dict[str, None] = {}
    for row in platform.datasets.get(known.dataset).read():
        inputs[str(row.get("input"))] = None
        if len(inputs) == COMPARED_ROWS:
            break
    return model, list(inputs)
