"""Classifiers: manages projects with their examples, trains classifiers, and classifies texts."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.classifiers import model as models
from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.model import TrainedClassifier, rank_classes
from airflow_provider_lamini.local.classifiers.repository import Project
from airflow_provider_lamini.local.classifiers.training import BATCH_SIZE, KIND, describe_job, find_job
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.jobs.store import compact_json
from airflow_provider_lamini.local.multipart import invalid_field, receive_form
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, listed, run_in_pool
from airflow_provider_lamini.platforms.lamini.api.classifiers import (
    ClassifierAddRequest,
    ClassifierInitializeRequest,
    ClassifierRegisterRequest,
    ClassifierTrainRequest,
    ClassifierUpdateJobRequest,
    ClassifyRequest,
)
from airflow_provider_lamini.platforms.lamini.kinds import state_of

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()

Score = Callable[[npt.NDArray[np.float64]], list[list[float]]]
"""Computes one score per class from vectors, one row per text."""

MIN_CLASSES: Final = 2
CANCELLED: Final = "Cancelled by request."


@router.post("/v2/classifier/initialize")
async def initialize(body: ClassifierInitializeRequest, platform: PlatformDep) -> Response:
    """Create a project with classes and examples, and start to train its classifier."""
    examples = body.examples or {}
    _check_name(body.name)
    if len(body.classes) < MIN_CLASSES:
        raise invalid_field("classes", f"A classifier needs at least {MIN_CLASSES} classes.")
    _check_classes(examples, body.classes, "examples")

    def start() -> dict[str, str | None]:
        if body.model_name in platform.inference.vectors.models():
            platform.inference.check_embedding_model(body.model_name)
        else:
            platform.inference.check_text_model(body.model_name)
        project = platform.classifiers.create(body.name, body.model_name, body.classes, examples)
        return _submit(platform, project)

    return json_response(await asyncio.to_thread(start))


@router.post("/v2/classifier/add")
async def add(body: ClassifierAddRequest, platform: PlatformDep) -> Response:
    """Add examples to a dataset of a project. The next training uses them."""
    _check_name(body.dataset_name)

    def add_examples() -> "dict[str, Json]":
        project = platform.classifiers.get(body.project_name)
        _check_classes(body.data, platform.classifiers.classes(project), "data")
        added = platform.classifiers.add(project, body.dataset_name, body.data)
        return {"project_name": project.name, "dataset_name": body.dataset_name, "num_added": added}

    return json_response(await asyncio.to_thread(add_examples))


@router.post("/v2/classifier/train")
async def train(body: ClassifierTrainRequest, platform: PlatformDep) -> Response:
    """Start to train a project's classifier on all its examples."""

    def start() -> dict[str, str | None]:
        project = platform.classifiers.get(body.name)
        if body.classifier_train_job_id is not None:
            # Only checked: vectors of earlier jobs are always reused.
            find_job(platform.classifiers, platform.store, body.classifier_train_job_id)
        return _submit(platform, project)

    return json_response(await asyncio.to_thread(start))


@router.get("/v2/classifier/{job_id}/status")
async def status(job_id: str, platform: PlatformDep) -> Response:
    """Return the status of a training, and the id of the model once it exists."""
    return json_response(await asyncio.to_thread(find_job, platform.classifiers, platform.store, job_id))


@router.post("/v2/classifier/update_job")
async def update_job(body: ClassifierUpdateJobRequest, platform: PlatformDep) -> Response:
    """Cancel a training. One that has already ended does not change."""
    if state_of(body.status) is not JobState.CANCELLED:
        raise ApiError(400, "A job's status can only be set to CANCELLED.")

    def cancel() -> dict[str, str | None]:
        find_job(platform.classifiers, platform.store, body.job_id)
        platform.runner.end(body.job_id, JobState.CANCELLED, CANCELLED)
        return find_job(platform.classifiers, platform.store, body.job_id)

    return json_response(await asyncio.to_thread(cancel))


@router.post("/v2/classifier/register")
async def register(body: ClassifierRegisterRequest, platform: PlatformDep) -> Response:
    """Add a model to another project."""

    def register_model() -> dict[str, str]:
        project = platform.classifiers.get(body.project_id)
        platform.classifiers.model(body.model_id)
        find_job(platform.classifiers, platform.store, body.job_id)
        platform.classifiers.register(project, body.model_id, body.job_id)
        return {"project_id": project.id, "model_id": body.model_id, "job_id": body.job_id}

    return json_response(await asyncio.to_thread(register_model))


@router.post("/v2/classifier/{model_id}/classify")
@router.post("/v1/classifier/{model_id}/classification")
async def classify(model_id: str, body: ClassifyRequest, platform: PlatformDep, request: Request) -> Response:
    """Return the classes of each text with their probabilities, most likely first."""
    model = await asyncio.to_thread(platform.classifiers.model, model_id)
    probabilities = await classify_texts(platform, model, listed(body.prompt), request)
    return json_response(
        {
            "classification": [
                rank_classes(
                    model,
                    row,
                    top_n=body.top_n,
                    threshold=body.threshold,
                    metadata=bool(body.metadata),
                )
                for row in probabilities
            ]
        }
    )


@router.post("/v1/classifier/{model_id}/prediction")
async def predict(model_id: str, body: ClassifyRequest, platform: PlatformDep, request: Request) -> Response:
    """Return the most likely class, or a list of them if the prompt is a list."""
    model = await asyncio.to_thread(platform.classifiers.model, model_id)
    probabilities = await classify_texts(platform, model, listed(body.prompt), request)
    names = [rank_classes(model, row, top_n=1)[0]["class_name"] for row in probabilities]
    return json_response({"prediction": names[0] if isinstance(body.prompt, str) else names})


async def classify_texts(
    platform: LocalPlatform,
    model: TrainedClassifier,
    texts: Sequence[str],
    request: Request,
    score: Score | None = None,
) -> list[list[float]]:
    """Return the probability of each class for each text, or another score.

    :param platform: embeds the texts
    :param model: the classifier
    :param texts: the texts
    :param request: the client's request; if the client disconnects, no more texts are embedded
    :param score: computes the scores from vectors; probabilities by default
    :return: one list per text with one score per class
    """
    name, score = model.embedding_model, score or model.probabilities
    platform.inference.check_embedding_model(name)
    batches = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
    scores = await run_in_pool(
        batches,
        lambda batch: score(features(batch, lambda parts: platform.inference.embed(parts, name))),
        platform.vector_pool,
        request,
        item_name=f"Texts in groups of {BATCH_SIZE}, group",
    )
    return list(chain.from_iterable(scores))


@router.post("/v1/classifier", include_in_schema=False)
async def upload(request: Request, platform: PlatformDep) -> dict[str, str]:
    """Import a model of a local platform: a file from its ``classifiers/models`` folder."""
    with platform.temporary_folder() as folder:
        form = await receive_form(request, Path(folder), "file")
        if len(form.files) != 1:
            raise invalid_field("file", "Expected exactly one file.")

        def import_model() -> str:
            try:
                model = models.load(form.files[0].path.read_bytes())
            except models.UnreadableModelError as error:
                raise ApiError(400, str(error)) from None
            return platform.classifiers.add_model(model, "", None)

        return {"model_id": await asyncio.to_thread(import_model)}


@router.get("/v2/classifier/projects")
async def projects(platform: PlatformDep) -> Response:
    """List the projects."""

    def read() -> "list[Json]":
        return [_project_entry(platform, project) for project in platform.classifiers.all()]

    return json_response(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/datasets")
async def datasets(project_name: str, platform: PlatformDep) -> Response:
    """List a project's datasets with their number of examples per class."""

    def read() -> "list[Json]":
        counts_by_dataset = platform.classifiers.datasets(platform.classifiers.get(project_name))
        return [
            {"dataset_name": name, "num_datapoints": sum(counts.values()), "classes": dict(counts)}
            for name, counts in counts_by_dataset.items()
        ]

    return json_response(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/jobs")
async def jobs(project_name: str, platform: PlatformDep) -> Response:
    """List a project's trainings, oldest first."""

    def read() -> list[dict[str, str | None]]:
        name = platform.classifiers.get(project_name).name
        found = [job for job in platform.store.jobs(KIND) if job.params["project"] == name]
        return [describe_job(job, platform.classifiers.model_of_job(job.id)) for job in found]

    return json_response(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/models")
async def project_models(project_name: str, platform: PlatformDep) -> Response:
    """List a project's models, oldest first."""

    def read() -> "list[Json]":
        project = platform.classifiers.get(project_name)
        return [
            {
                "model_id": model.id,
                "job_id": model.job_id or None,
                "project_name": project.name,
                "created_at": _iso_time(model.created),
                "metadata": {"classes": model.classes, "held_out_accuracy": model.accuracy},
            }
            for model in platform.classifiers.models(project)
        ]

    return json_response(await asyncio.to_thread(read))


@router.delete("/v2/classifier/{project_name}/{dataset_name}")
async def delete_dataset(project_name: str, dataset_name: str, platform: PlatformDep) -> Response:
    """Delete a dataset. Models that were trained on it remain."""

    def delete() -> "dict[str, Json]":
        project = platform.classifiers.get(project_name)
        deleted = platform.classifiers.delete(project, dataset_name)
        if not deleted:
            raise _dataset_not_found(project, dataset_name)
        return {"project_name": project.name, "dataset_name": dataset_name, "num_deleted": deleted}

    return json_response(await asyncio.to_thread(delete))


@router.get("/v2/classifier/{project_name}/{dataset_name}/download")
async def download_dataset(project_name: str, dataset_name: str, platform: PlatformDep) -> Response:
    """Return a dataset as JSON Lines with ``input`` and ``target``, the format of evaluations."""

    def check() -> Project:
        project = platform.classifiers.get(project_name)
        if dataset_name not in platform.classifiers.datasets(project):
            raise _dataset_not_found(project, dataset_name)
        return project

    project = await asyncio.to_thread(check)

    def lines() -> Iterator[str]:
        for name, text in platform.classifiers.rows(project, dataset_name):
            yield compact_json({"input": text, "target": name}) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def _submit(platform: LocalPlatform, project: Project) -> dict[str, str | None]:
    return describe_job(platform.runner.submit(KIND, {"project": project.name}), None)


def _check_name(name: str) -> None:
    if "/" in name or not name.isprintable() or name in (".", ".."):
        raise ApiError(400, "A name must be printable and contain no slash, as it is part of a path.")


def _check_classes(examples: dict[str, list[str]], classes: dict[str, str], field: str) -> None:
    if unknown := [name for name in examples if name not in classes]:
        known = ", ".join(map(repr, classes))
        raise invalid_field(field, f"Unknown class {unknown[0]!r}; the project's classes are {known}.")


def _dataset_not_found(project: Project, dataset_name: str) -> ApiError:
    return ApiError(404, f"Project {project.name!r} has no dataset {dataset_name!r}.")


def _project_entry(platform: LocalPlatform, project: Project) -> "dict[str, Json]":
    return {
        "project_id": project.id,
        "project_name": project.name,
        "model_name": project.model_name,
        "created_at": _iso_time(project.created),
        "classes": dict(platform.classifiers.classes(project)),
    }


def _iso_time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).isoformat(timespec="seconds")
