"""Classifiers: making and training them, and sorting texts with them."""

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from airflow_provider_lamini.api.lamini.classifiers import (
    ClassifierAddRequest,
    ClassifierInitializeRequest,
    ClassifierRegisterRequest,
    ClassifierTrainRequest,
    ClassifierUpdateJobRequest,
    ClassifyRequest,
)
from airflow_provider_lamini.jobs.state import JobState, state_of
from airflow_provider_lamini.local.classifiers import model as models
from airflow_provider_lamini.local.classifiers.model import rank_classes
from airflow_provider_lamini.local.classifiers.projects import Project
from airflow_provider_lamini.local.classifiers.training import KIND, describe_job, find_job
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.multipart import invalid, receive
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.classifying import classify_texts
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer
from airflow_provider_lamini.local.store import as_json

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()

CLASSES_AT_LEAST: Final = 2
CANCELLED: Final = "Cancelled by request."


@router.post("/v2/classifier/initialize")
async def initialize(body: ClassifierInitializeRequest, platform: PlatformOf) -> Response:
    """Make a project of classes and examples, and begin to train its classifier."""
    examples = body.examples or {}
    _check_names(body.name)
    if len(body.classes) < CLASSES_AT_LEAST:
        raise invalid("classes", "A classifier needs two classes or more.")
    _check_classes(examples, body.classes, "examples")

    def start() -> dict[str, str | None]:
        if body.model_name in platform.inference.vectors.models():
            platform.inference.check_embedding_model(body.model_name)
        else:
            platform.inference.check_text_model(body.model_name)
        project = platform.classifiers.create(body.name, body.model_name, body.classes, examples)
        return _submit(platform, project)

    return as_answer(await asyncio.to_thread(start))


@router.post("/v2/classifier/add")
async def add(body: ClassifierAddRequest, platform: PlatformOf) -> Response:
    """Add examples to a dataset of a project; the classifier knows them after its next training."""
    _check_names(body.dataset_name)

    def do() -> "dict[str, Json]":
        project = platform.classifiers.get(body.project_name)
        _check_classes(body.data, platform.classifiers.classes(project), "data")
        added = platform.classifiers.add(project, body.dataset_name, body.data)
        return {"project_name": project.name, "dataset_name": body.dataset_name, "num_added": added}

    return as_answer(await asyncio.to_thread(do))


@router.post("/v2/classifier/train")
async def train(body: ClassifierTrainRequest, platform: PlatformOf) -> Response:
    """Begin to train a project's classifier on all its examples."""

    def start() -> dict[str, str | None]:
        project = platform.classifiers.get(body.name)
        if body.classifier_train_job_id is not None:
            # What an earlier job computed is used in any case.
            find_job(platform.classifiers, platform.store, body.classifier_train_job_id)
        return _submit(platform, project)

    return as_answer(await asyncio.to_thread(start))


@router.get("/v2/classifier/{job_id}/status")
async def status(job_id: str, platform: PlatformOf) -> Response:
    """How a training stands, and the model once it is there."""
    return as_answer(await asyncio.to_thread(find_job, platform.classifiers, platform.store, job_id))


@router.post("/v2/classifier/update_job")
async def update_job(body: ClassifierUpdateJobRequest, platform: PlatformOf) -> Response:
    """Cancel a training; one that has ended stays as it is."""
    if state_of(body.status) is not JobState.CANCELLED:
        raise PlatformError(400, "The only state that a job can be set to is CANCELLED.")

    def cancel() -> dict[str, str | None]:
        find_job(platform.classifiers, platform.store, body.job_id)
        platform.runner.end(body.job_id, JobState.CANCELLED, CANCELLED)
        return find_job(platform.classifiers, platform.store, body.job_id)

    return as_answer(await asyncio.to_thread(cancel))


@router.post("/v2/classifier/register")
async def register(body: ClassifierRegisterRequest, platform: PlatformOf) -> Response:
    """Make a model a project's too."""

    def do() -> dict[str, str]:
        project = platform.classifiers.get(body.project_id)
        platform.classifiers.model(body.model_id)
        find_job(platform.classifiers, platform.store, body.job_id)
        platform.classifiers.register(project, body.model_id, body.job_id)
        return {"project_id": project.id, "model_id": body.model_id, "job_id": body.job_id}

    return as_answer(await asyncio.to_thread(do))


@router.post("/v2/classifier/{model_id}/classify")
@router.post("/v1/classifier/{model_id}/classification")
async def classify(model_id: str, body: ClassifyRequest, platform: PlatformOf, request: Request) -> Response:
    """Say of each text how likely its classes are, the likeliest first."""
    model = await asyncio.to_thread(platform.classifiers.model, model_id)
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    found = await classify_texts(platform, model, texts, request)
    return as_answer(
        {
            "classification": [
                rank_classes(
                    model,
                    likely,
                    top_n=body.top_n,
                    threshold=body.threshold,
                    metadata=bool(body.metadata),
                )
                for likely in found
            ]
        }
    )


@router.post("/v1/classifier/{model_id}/prediction")
async def predict(model_id: str, body: ClassifyRequest, platform: PlatformOf, request: Request) -> Response:
    """Name the likeliest class; a list where the prompt was a list."""
    model = await asyncio.to_thread(platform.classifiers.model, model_id)
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    found = await classify_texts(platform, model, texts, request)
    names = [rank_classes(model, likely, top_n=1)[0]["class_name"] for likely in found]
    return as_answer({"prediction": names[0] if isinstance(body.prompt, str) else names})


@router.post("/v1/classifier", include_in_schema=False)
async def upload(request: Request, platform: PlatformOf) -> dict[str, str]:
    """Take a model that a local platform trained: one of the files in its ``classifiers/models`` folder."""
    with tempfile.TemporaryDirectory() as folder:
        form = await receive(request, Path(folder), "file")
        if len(form.files) != 1:
            raise invalid("file", "One file was expected.")

        def keep() -> str:
            try:
                model = models.load(form.files[0].path.read_bytes())
            except models.UnreadableModelError as error:
                raise PlatformError(400, str(error)) from None
            return platform.classifiers.add_model(model, "", None)

        return {"model_id": await asyncio.to_thread(keep)}


@router.get("/v2/classifier/projects")
async def projects(platform: PlatformOf) -> Response:
    """The projects."""

    def read() -> "list[Json]":
        return [_shown_project(platform, project) for project in platform.classifiers.all()]

    return as_answer(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/datasets")
async def datasets(project_name: str, platform: PlatformOf) -> Response:
    """A project's datasets, with how many examples of each class."""

    def read() -> "list[Json]":
        found = platform.classifiers.datasets(platform.classifiers.get(project_name))
        return [
            {"dataset_name": name, "num_datapoints": sum(counts.values()), "classes": dict(counts)}
            for name, counts in found.items()
        ]

    return as_answer(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/jobs")
async def jobs(project_name: str, platform: PlatformOf) -> Response:
    """A project's trainings, the oldest first."""

    def read() -> list[dict[str, str | None]]:
        name = platform.classifiers.get(project_name).name
        found = [job for job in platform.store.jobs(KIND) if job.params["project"] == name]
        return [describe_job(job, platform.classifiers.model_of_job(job.id)) for job in found]

    return as_answer(await asyncio.to_thread(read))


@router.get("/v2/classifier/{project_name}/models")
async def project_models(project_name: str, platform: PlatformOf) -> Response:
    """A project's models, the oldest first."""

    def read() -> "list[Json]":
        project = platform.classifiers.get(project_name)
        return [
            {
                "model_id": one.id,
                "job_id": one.job_id or None,
                "project_name": project.name,
                "created_at": _time(one.created),
                "metadata": {"classes": one.classes, "held_out_accuracy": one.accuracy},
            }
            for one in platform.classifiers.models(project)
        ]

    return as_answer(await asyncio.to_thread(read))


@router.delete("/v2/classifier/{project_name}/{dataset_name}")
async def delete_dataset(project_name: str, dataset_name: str, platform: PlatformOf) -> Response:
    """Delete a dataset; models that were trained on it stay."""

    def delete() -> "dict[str, Json]":
        project = platform.classifiers.get(project_name)
        deleted = platform.classifiers.delete(project, dataset_name)
        if not deleted:
            raise _no_dataset(project, dataset_name)
        return {"project_name": project.name, "dataset_name": dataset_name, "num_deleted": deleted}

    return as_answer(await asyncio.to_thread(delete))


@router.get("/v2/classifier/{project_name}/{dataset_name}/download")
async def download_dataset(project_name: str, dataset_name: str, platform: PlatformOf) -> Response:
    """A dataset as JSON Lines of ``input`` and ``target``, as an evaluation takes them."""

    def check() -> Project:
        project = platform.classifiers.get(project_name)
        if dataset_name not in platform.classifiers.datasets(project):
            raise _no_dataset(project, dataset_name)
        return project

    project = await asyncio.to_thread(check)

    def lines() -> Iterator[str]:
        for name, text in platform.classifiers.rows(project, dataset_name):
            yield as_json({"input": text, "target": name}) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def _submit(platform: Platform, project: Project) -> dict[str, str | None]:
    return describe_job(platform.runner.submit(KIND, {"project": project.name}), None)


def _check_names(name: str) -> None:
    if "/" in name or not name.isprintable() or name in (".", ".."):
        raise PlatformError(400, "A name must be printable and hold no slash: it is part of a path.")


def _check_classes(examples: dict[str, list[str]], classes: dict[str, str], field: str) -> None:
    if unknown := [name for name in examples if name not in classes]:
        known = ", ".join(map(repr, classes))
        raise invalid(f"{field}", f"No such class: {unknown[0]!r}; the project's classes are {known}.")


def _no_dataset(project: Project, dataset_name: str) -> PlatformError:
    return PlatformError(404, f"Project {project.name!r} has no dataset {dataset_name!r}.")


def _shown_project(platform: Platform, project: Project) -> "dict[str, Json]":
    return {
        "project_id": project.id,
        "project_name": project.name,
        "model_name": project.model_name,
        "created_at": _time(project.created),
        "classes": dict(platform.classifiers.classes(project)),
    }


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).isoformat(timespec="seconds")
