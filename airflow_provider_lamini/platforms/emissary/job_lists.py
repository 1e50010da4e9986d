"""The lists of jobs that people look at."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.jobs.listed import (
    JobDetail,
    JobList,
    ListedJob,
    LossAxis,
    Scope,
    curve,
    newest,
)
from airflow_provider_lamini.platforms.emissary.api import datasets, deployments, engines, projects, training
from airflow_provider_lamini.platforms.emissary.kinds import (
    DATASET,
    DEPLOYMENT,
    ENGINE,
    TRAINING,
    dataset_status,
    deployment_status,
    engine_status,
    join_id,
    split_id,
    training_status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.listed import JobPage

T = TypeVar("T")

_PROJECTS = projects.list_all().map(
    lambda found: [Scope(project.id, project.name or project.id) for project in found]
)


def _training(project_id: str, job: training.TrainingJobSummary) -> ListedJob:
    return ListedJob(
        status=training_status(join_id(project_id, job.id), job),
        name=job.name,
        created_at=job.created_at,
        updated_at=job.updated_at,
    )


def _training_detail(project_id: str, job: training.TrainingJobDetail) -> JobDetail:
    points = curve((point.timestamp, point.loss) for point in job.training_loss)
    return JobDetail(_training(project_id, job), points, LossAxis.TIME)


def _detail(job_id: str) -> Call[JobDetail]:
    project_id, training_job_id = split_id(job_id)
    return training.job(project_id, training_job_id).map(partial(_training_detail, project_id))


def _dataset(project_id: str, dataset: datasets.DatasetSummary) -> ListedJob:
    status = dataset_status(join_id(project_id, dataset.id), dataset.is_uploaded)
    return ListedJob(status=status, name=dataset.name, created_at=dataset.created_at)


def _deployment(project_id: str, deployment: deployments.DeploymentSummary) -> ListedJob:
    status = deployment_status(join_id(project_id, deployment.id), deployment.status)
    return ListedJob(status=status, name=deployment.name, created_at=deployment.created_at)


def _engine(engine: engines.InferenceEngineSummary) -> ListedJob:
    return ListedJob(
        status=engine_status(engine.id, engine.status), name=engine.name, created_at=engine.created_at
    )


def _of_projects(
    list_items: Callable[[str], Call[list[T]]], listed: Callable[[str, T], ListedJob]
) -> Callable[[str], Call[JobPage]]:
    return lambda project: list_items(project).map(
        lambda items: newest(listed(project, each) for each in items)
    )


JOB_LISTS = (
    JobList(
        kind=TRAINING,
        title="Training jobs",
        jobs=_of_projects(training.list_jobs, _training),
        scopes=_PROJECTS,
        detail=_detail,
    ),
    JobList(
        kind=DEPLOYMENT,
        title="Deployments",
        jobs=_of_projects(deployments.list_all, _deployment),
        scopes=_PROJECTS,
    ),
    JobList(
        kind=ENGINE,
        title="Engines",
        jobs=lambda _: engines.list_all().map(lambda all_: newest(map(_engine, all_))),
    ),
    JobList(kind=DATASET, title="Datasets", jobs=_of_projects(datasets.list_all, _dataset), scopes=_PROJECTS),
)
