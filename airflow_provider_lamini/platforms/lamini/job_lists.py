"""The lists of jobs that people look at. The platform lists no batches and no indexes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.kinds import EVERY_JOB
from airflow_provider_lamini.jobs.listed import JobDetail, JobList, ListedJob, Scope, curve, newest
from airflow_provider_lamini.platforms.lamini.api import classifier_projects, models, training, training_list
from airflow_provider_lamini.platforms.lamini.kinds import (
    CLASSIFIER,
    MODEL_DOWNLOAD,
    TUNING,
    classifier_status,
    download_status,
    tuning_status,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassifierJob


def _time(text: str | None) -> float | None:
    """Read a time; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _tuning(job: training.TrainJob) -> ListedJob:
    return ListedJob(
        status=tuning_status(job),
        name=job.custom_model_name or job.model_name,
        created_at=_time(job.start_time),
    )


def _tuning_detail(job: training.TrainJob) -> JobDetail:
    steps = job.steps()
    numbered = enumerate((step.step for step in steps), 1)
    positions = [number if step is None else step for number, step in numbered]
    return JobDetail(_tuning(job), curve(zip(positions, (step.loss for step in steps), strict=True)))


def _classifier(job: ClassifierJob) -> ListedJob:
    return ListedJob(status=classifier_status(job.job_id, job), name=job.model_id)


def _download(model: models.DownloadedModel) -> ListedJob:
    return ListedJob(status=download_status(model), created_at=_time(model.creation_ts))


JOB_LISTS = (
    JobList(
        kind=TUNING,
        title="Tuning jobs",
        jobs=lambda _: training_list.list_all(EVERY_JOB, _tuning).map(lambda listed: newest(listed.found)),
        detail=lambda job_id: training.job(job_id).map(_tuning_detail),
    ),
    JobList(
        kind=CLASSIFIER,
        title="Classifier jobs",
        jobs=lambda project: classifier_projects.list_jobs(project).map(
            lambda jobs: newest(map(_classifier, jobs))
        ),
        scopes=classifier_projects.list_projects().map(lambda names: [Scope(name, name) for name in names]),
    ),
    JobList(
        kind=MODEL_DOWNLOAD,
        title="Model downloads",
        jobs=lambda _: models.list_downloaded().map(lambda listed: newest(map(_download, listed))),
    ),
)
