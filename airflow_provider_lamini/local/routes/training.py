"""Tuning jobs: starts, lists, cancels and resumes them, and compares tuned models with their base model."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field, field_validator
from starlette.responses import Response

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.datasets.repository import StoredDataset
from airflow_provider_lamini.local.engines.base import EngineUnavailable
from airflow_provider_lamini.local.errors import UNSUPPORTED, ApiError
from airflow_provider_lamini.local.inference import CompletionSettings
from airflow_provider_lamini.local.models.catalogue import VECTORS, find
from airflow_provider_lamini.local.multipart import invalid_field
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, run_in_pool
from airflow_provider_lamini.local.tuning.arguments import LocalFinetuneArgs
from airflow_provider_lamini.local.tuning.repository import KIND, TunedModel, TuningJob
from airflow_provider_lamini.local.tuning.runner import CREATED, attempt_id, latest_attempts, resume_count
from airflow_provider_lamini.platforms.lamini.api.training import TrainRequest

router = APIRouter(prefix="/v1/train")

COMPARED_ROWS: Final = 5
"""Number of the dataset's inputs that a tuned model is compared with its base model on."""

COMPARED_TOKENS: Final = 64
"""Maximum number of tokens of each compared output."""

MAX_MODELS: Final = 64
"""Maximum number of tuned models, as each one is loaded alongside its base model."""

MAX_JOB_NUMBER: Final = (1 << 63) - 1

JobNumber = Annotated[int, Path(ge=0, le=MAX_JOB_NUMBER)]
"""Path parameter with the id of a tuning job."""


class TrainBody(TrainRequest):
    """A model to tune, the data to tune it on, and how."""

    finetune_args: LocalFinetuneArgs | None = None
    custom_model_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @field_validator("custom_model_name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("Input should have no control characters")
        return value


@router.post("")
async def train(body: TrainBody, platform: PlatformDep) -> dict[str, str | int]:
    """Start to tune a model."""
    number = await asyncio.to_thread(_start, platform, body)
    return {"job_id": number, "status": CREATED}


@router.get("/jobs")
async def list_jobs(platform: PlatformDep) -> Response:
    """List all jobs, oldest first."""

    def read() -> list[dict[str, Json]]:
        attempts = latest_attempts(platform.store)
        return [
            platform.tuning_jobs.describe(tuning, attempts.get(tuning.number))
            for tuning in platform.tunings.all()
        ]

    return json_response(await asyncio.to_thread(read))


@router.post("/jobs/cancel")
async def cancel_all(platform: PlatformDep) -> Response:
    """Cancel all unfinished jobs."""

    def cancel_attempts() -> list[int]:
        attempts = latest_attempts(platform.store).items()
        return [number for number, attempt in attempts if platform.runner.end(attempt.id, JobState.CANCELLED)]

    return json_response({"status": "CANCELLED", "job_ids": await asyncio.to_thread(cancel_attempts)})


@router.get("/jobs/{job_id}")
async def job(job_id: JobNumber, platform: PlatformDep) -> Response:
    """Return a job with its training history."""

    def read() -> dict[str, Json]:
        tuning = platform.tunings.get(job_id)
        return platform.tuning_jobs.describe(tuning, latest_attempts(platform.store).get(job_id))

    return json_response(await asyncio.to_thread(read))


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: JobNumber, platform: PlatformDep) -> dict[str, str]:
    """Cancel a job, but keep its checkpoints. A job that has already ended does not change."""

    def cancel_attempt() -> str:
        tuning = platform.tunings.get(job_id)
        attempt = latest_attempts(platform.store).get(job_id)
        if attempt is not None and platform.runner.end(attempt.id, JobState.CANCELLED):
            attempt = latest_attempts(platform.store).get(job_id)
        return platform.tuning_jobs.status(tuning, attempt)

    return {"status": await asyncio.to_thread(cancel_attempt)}


@router.post("/jobs/{job_id}/resume")
async def resume(job_id: JobNumber, platform: PlatformDep) -> dict[str, str]:
    """Resume a failed, cancelled or timed-out job from its last checkpoint."""

    def start_next_attempt() -> str:
        tuning = platform.tunings.get(job_id)
        _check_available(platform)
        with platform.tunings.lock:
            attempt = latest_attempts(platform.store).get(job_id)
            if attempt is None or attempt.state not in (
                JobState.FAILED,
                JobState.CANCELLED,
                JobState.TIMED_OUT,
            ):
                status = platform.tuning_jobs.status(tuning, attempt)
                raise ApiError(
                    400,
                    f"Job {job_id} is {status}: only a failed, cancelled or timed-out job can be resumed.",
                )
            next_attempt = platform.runner.submit(
                KIND, {}, job_id=attempt_id(job_id, resume_count(attempt) + 1)
            )
        return platform.tuning_jobs.status(tuning, next_attempt)

    return {"status": await asyncio.to_thread(start_next_attempt)}


@router.get("/jobs/{job_id}/eval")
async def compare(job_id: JobNumber, platform: PlatformDep, request: Request) -> Response:
    """Return the outputs of a tuned model and its base model for some rows of the dataset."""
    model, inputs = await asyncio.to_thread(_model_and_inputs, platform, job_id)
    names = (model.base, model.name)

    def complete(item: tuple[str, str]) -> str:
        name, prompt = item
        settings = CompletionSettings(model_name=name, max_new_tokens=COMPARED_TOKENS)
        return str(platform.inference.complete(settings, prompt).output)

    items = [(name, prompt) for prompt in inputs for name in names]
    outputs = iter(await run_in_pool(items, complete, platform.text_pool, request, item_name="Row"))
    results = [
        {"input": prompt, "outputs": [{"model_name": name, "output": next(outputs)} for name in names]}
        for prompt in inputs
    ]
    return json_response({"job_id": job_id, "eval_results": results})


def _start(platform: LocalPlatform, body: TrainBody) -> int:
    """Check a request and start its job.

    :return: the job's number
    :raises ApiError: the request cannot be fulfilled
    """
    _check_available(platform)
    base = _base_model(platform, body.model_name)
    dataset = _dataset(platform, body)
    arguments = {} if body.finetune_args is None else body.finetune_args.model_dump(exclude_unset=True)
    with platform.tunings.lock:
        if len(platform.tunings.models()) >= MAX_MODELS:
            raise ApiError(
                400,
                f"The platform already has {MAX_MODELS} tuned models. Delete adapters you no longer need from the "
                "folder tuning/models in its data folder, and restart it.",
            )
        tuning = platform.tunings.create(
            base, dataset.id, body.custom_model_name, arguments, is_public=bool(body.is_public)
        )
        platform.runner.submit(KIND, {}, job_id=attempt_id(tuning.number, 0))
    return tuning.number


def _base_model(platform: LocalPlatform, name: str) -> str:
    """Return the main name of a base model, which may be requested by an alias.

    :raises ApiError: the model cannot be tuned
    :raises EngineError: the model is not served
    """
    if any(model.name == name for model in platform.tunings.models()):
        raise ApiError(400, f"Model {name!r} is already tuned and cannot be tuned again.")
    if find(name) is VECTORS:
        raise ApiError(400, f"Model {name!r} is an embedding model and cannot be tuned.")
    platform.inference.check_text_model(name)
    try:
        platform.served_models.model_file(name)
    except EngineUnavailable as error:
        raise ApiError(400, str(error)) from None
    known = find(name)
    return known.name if known else name


def _check_available(platform: LocalPlatform) -> None:
    """Check that this platform can tune models.

    :raises ApiError: it cannot
    """
    if problem := platform.tuning_problem():
        raise ApiError(UNSUPPORTED, problem)


def _dataset(platform: LocalPlatform, body: TrainBody) -> StoredDataset:
    """Return the dataset to learn from. Rows in the body become a new dataset.

    :raises ApiError: the dataset does not exist, has no rows, or the request names two datasets
    """
    has_dataset = body.dataset_id is not None or body.upload_file_path is not None
    if has_dataset == (body.data is not None):
        raise invalid_field("dataset_id", "Exactly one of dataset_id and data is needed", "missing")
    if body.data is not None:
        return _store_rows(platform, body.data, is_public=bool(body.is_public))
    datasets = [] if body.dataset_id is None else [platform.datasets.get(body.dataset_id)]
    if body.upload_file_path is not None:
        datasets.append(platform.datasets.get_by_location(body.upload_file_path))
    if len({dataset.id for dataset in datasets}) > 1:
        raise ApiError(400, "upload_file_path and dataset_id name different datasets.")
    if not datasets[0].size:
        raise ApiError(400, f"Dataset {datasets[0].id} has no rows yet: nothing was uploaded.")
    return datasets[0]


def _store_rows(platform: LocalPlatform, rows: list[dict[str, Json]], *, is_public: bool) -> StoredDataset:
    if not rows:
        raise invalid_field("data", "List should have at least 1 item after validation, not 0", "too_short")
    with platform.datasets.write_rows() as (dataset_id, writer):
        for row in rows:
            writer.add(row)
    return platform.datasets.register(dataset_id, writer.rows, is_public=is_public)


def _model_and_inputs(platform: LocalPlatform, number: int) -> tuple[TunedModel, list[str]]:
    """Return a job's tuned model, and the inputs to compare it on.

    :raises ApiError: the job has no model yet
    """
    tuning: TuningJob = platform.tunings.get(number)
    model = platform.tunings.model_of(number)
    if model is None:
        status = platform.tuning_jobs.status(tuning, latest_attempts(platform.store).get(number))
        raise ApiError(400, f"Job {number} has no model to evaluate, current status: {status}.")
    inputs: dict[str, None] = {}
    for row in platform.datasets.get(tuning.dataset).read():
        inputs[str(row.get("input"))] = None
        if len(inputs) == COMPARED_ROWS:
            break
    return model, list(inputs)
