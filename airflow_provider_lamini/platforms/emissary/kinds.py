"""The kinds of Emissary jobs. A new kind is one entry here.

Training jobs and deployments belong to a project, so their ids as jobs are ``project/id``. A deployment and an engine
never end: a wait for one ends when it is in the state that the kind waits for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.kinds import JobKind, Listing
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, ProgressUnit
from airflow_provider_lamini.platforms.emissary.api import (
    datasets,
    deployments,
    engines,
    status_lists,
    training,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.job_list import ListedJobs
    from airflow_provider_lamini.jobs.kinds import ActionCall
    from airflow_provider_lamini.platforms.emissary.api.status_lists import ListedStatus

    Words = Mapping[str, JobState]

_TRAINING_WORDS = {
    "pending": JobState.QUEUED,
    "running": JobState.RUNNING,
    "testing": JobState.RUNNING,
    "success": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
    "timedout": JobState.TIMED_OUT,
}

_DEPLOYMENT_WORDS = {
    "pending": JobState.QUEUED,
    "deploying": JobState.RUNNING,
    "reactivating": JobState.RUNNING,
    "deployed": JobState.SUCCEEDED,
    "deactivated": JobState.INACTIVE,
    "failed": JobState.FAILED,
    "terminated": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
    "timedout": JobState.TIMED_OUT,
}

_ENGINE_WORDS = {
    "creating": JobState.RUNNING,
    "active": JobState.SUCCEEDED,
    "inactive": JobState.INACTIVE,
}

_DATASET_WORDS = {"uploading": JobState.RUNNING, "uploaded": JobState.SUCCEEDED}
"""A dataset has no status, only a flag."""

_CREATED = {"deactivated": JobState.SUCCEEDED, "inactive": JobState.SUCCEEDED}
"""It exists, whether it is active or parked: it may have been parked before anybody noticed that it was active."""

_PARKED = {**_CREATED, "deployed": JobState.RUNNING, "active": JobState.RUNNING}
"""It is parked."""


DEPLOY_AGAIN = "It cannot be woken: deploy the checkpoint again."
"""What to do about a deployment that has ended."""


def join_id(project_id: str, item_id: str) -> str:
    """Return the id of a training job or deployment as a job, which tells its project.

    :param project_id: the project
    :param item_id: the platform's id of the training job or deployment
    """
    return f"{project_id}/{item_id}"


def split_id(job_id: str) -> tuple[str, str]:
    """Return the project and the platform's id of a job.

    :param job_id: what :func:`join_id` returned
    :raises ValueError: if it does not tell its project
    """
    project_id, slash, item_id = job_id.partition("/")
    if not (project_id and slash and item_id) or "/" in item_id:
        raise ValueError(f"job_id must be project/id, such as ms-12345/tr-12345, not {job_id!r}")
    return project_id, item_id


def _status(words: Words, job_id: str, raw: object, progress: object = None) -> JobStatus:
    word = str(raw)
    state = words.get(word.replace("_", "").replace(" ", "").casefold(), JobState.UNKNOWN)
    number = isinstance(progress, int | float) and not isinstance(progress, bool)
    done = JobProgress(float(str(progress)), ProgressUnit.PERCENT) if number and not state.ended else None
    return JobStatus(job_id, state, word, done)


def training_status(job_id: str, job: training.TrainingJobSummary) -> JobStatus:
    """Return the status of a training job; with the last loss if the platform says it.

    :param job_id: the project and the platform's id
    :param job: what the platform says about it, in a list or in detail
    """
    status = _status(_TRAINING_WORDS, job_id, job.status, job.progress)
    points = job.training_loss if isinstance(job, training.TrainingJobDetail) else []
    losses = [point.loss for point in points if point.loss is not None]
    detail = f"loss {losses[-1]:.4g}" if losses and not status.state.ended else None
    return JobStatus(job_id, status.state, status.raw, status.progress, detail)


def _status_word(item: ListedStatus) -> object:
    return item.status


def _upload_word(is_uploaded: object) -> str | None:
    return {True: "uploaded", False: "uploading"}.get(is_uploaded) if isinstance(is_uploaded, bool) else None


def _keep(
    words: Words,
    project_id: str | None,
    job_ids: Collection[str],
    word_of: Callable[[ListedStatus], object] = _status_word,
) -> Callable[[ListedStatus], JobStatus | None]:
    def keep(item: ListedStatus) -> JobStatus | None:
        job_id = str(item.id) if project_id is None else join_id(project_id, str(item.id))
        word = word_of(item)
        if job_id not in job_ids or not isinstance(word, str):
            return None
        return _status(words, job_id, word, item.progress)

    return keep


def _listing(listed: ListedJobs[JobStatus]) -> Listing:
    return Listing({status.job_id: status for status in listed.found}, listed.size)


def _scope_of(job_id: str) -> str:
    return split_id(job_id)[0]


def _training_call(job_id: str) -> Call[JobStatus]:
    return training.job(*split_id(job_id)).map(partial(training_status, job_id))


TRAINING = JobKind(
    name="emissary/training",
    title="training",
    status=_training_call,
    list_statuses=lambda project, job_ids: status_lists.training_jobs(
        project, _keep(_TRAINING_WORDS, project, job_ids)
    ).map(_listing),
    scope_of=_scope_of,
    cancel=lambda job_id: training.cancel(*split_id(job_id)),
)


DATASET = JobKind(
    name="emissary/dataset",
    title="dataset upload",
    called_job=False,
    status=lambda job_id: datasets.dataset(*split_id(job_id)).map(
        lambda dataset: dataset_status(job_id, dataset.is_uploaded)
    ),
    list_statuses=lambda project, job_ids: status_lists.datasets_of(
        project, _keep(_DATASET_WORDS, project, job_ids, lambda item: _upload_word(item.is_uploaded))
    ).map(_listing),
    scope_of=_scope_of,
    cancel=lambda job_id: datasets.delete(*split_id(job_id)),
    cancel_deletes=True,
)
"""Ends when the dataset can be used. It is cancelled by deleting it."""


DEPLOYMENT = JobKind(
    name="emissary/deployment",
    title="deployment",
    called_job=False,
    endless=True,
    status=lambda job_id: deployments.deployment(*split_id(job_id)).map(
        lambda deployment: deployment_status(job_id, deployment.status)
    ),
    list_statuses=lambda project, job_ids: status_lists.deployments_of(
        project, _keep(_DEPLOYMENT_WORDS, project, job_ids)
    ).map(_listing),
    scope_of=_scope_of,
)
"""Ends when it is deployed; one that is parked is waited for until somebody wakes it."""

ENGINE = JobKind(
    name="emissary/engine",
    title="engine",
    called_job=False,
    endless=True,
    status=lambda job_id: engines.engine(job_id).map(lambda engine: engine_status(job_id, engine.status)),
    list_statuses=lambda _, job_ids: status_lists.all_engines(_keep(_ENGINE_WORDS, None, job_ids)).map(
        _listing
    ),
)
"""Ends when it is active; one that is parked is waited for until somebody wakes it."""


def _until(
    short_name: str, base: JobKind, title: str, words: Words, cancel: ActionCall | None = None
) -> JobKind:
    """Return a kind for the same things that waits for something else.

    :param short_name: the new kind's name
    :param base: the kind that is polled
    :param title: the kind in messages
    :param words: what status words mean here, where that differs
    :param cancel: deletes the thing
    """

    def translate(status: JobStatus) -> JobStatus:
        return replace(status, state=words.get(status.raw.casefold(), status.state))

    return JobKind(
        name=f"emissary/{short_name}",
        title=title,
        called_job=False,
        endless=True,
        status=lambda job_id: base.status(job_id).map(translate),
        scope_of=base.scope_of,
        cancel=cancel,
        cancel_deletes=cancel is not None,
        polled_as=base,
        translate=translate,
    )


CREATED_DEPLOYMENT = _until(
    "created_deployment",
    DEPLOYMENT,
    "deployment",
    _CREATED,
    lambda job_id: deployments.delete(*split_id(job_id)),
)
"""Ends when it is deployed or parked. It is cancelled by deleting it, so this kind is for the task that created it."""

PARKED_DEPLOYMENT = _until("parked_deployment", DEPLOYMENT, "parked deployment", _PARKED)
"""Ends when it is parked."""

CREATED_ENGINE = _until("created_engine", ENGINE, "engine", _CREATED, engines.delete)
"""Ends when it is active or parked. It is cancelled by deleting it, so this kind is for the task that created it."""

PARKED_ENGINE = _until("parked_engine", ENGINE, "parked engine", _PARKED)
"""Ends when it is parked."""


def deployment_status(job_id: str, word: str) -> JobStatus:
    """Return the status of a deployment.

    :param job_id: the project and the platform's id
    :param word: the platform's status word
    """
    return _status(_DEPLOYMENT_WORDS, job_id, word)


def engine_status(engine_id: str, word: str) -> JobStatus:
    """Return the status of an engine.

    :param engine_id: the platform's id
    :param word: the platform's status word
    """
    return _status(_ENGINE_WORDS, engine_id, word)


def dataset_status(job_id: str, is_uploaded: object) -> JobStatus:
    """Return the status of a dataset.

    :param job_id: the project and the platform's id
    :param is_uploaded: the platform's flag
    """
    return _status(_DATASET_WORDS, job_id, _upload_word(is_uploaded) or "unknown")


def state_of(kind: JobKind, word: str) -> JobState:
    """Return what a status word means for a deployment or an engine.

    :param kind: ``DEPLOYMENT`` or ``ENGINE``
    :param word: the platform's status word
    """
    return _status(_ENGINE_WORDS if kind is ENGINE else _DEPLOYMENT_WORDS, "", word).state


def is_live(kind: JobKind, word: str) -> bool:
    """Return whether a deployment or an engine with this status word is active, parked, or on its way there.

    :param kind: ``DEPLOYMENT`` or ``ENGINE``
    :param word: the platform's status word
    """
    return state_of(kind, word) in (
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
        JobState.INACTIVE,
    )


JOB_KINDS = (
    TRAINING,
    DATASET,
    DEPLOYMENT,
    CREATED_DEPLOYMENT,
    PARKED_DEPLOYMENT,
    ENGINE,
    CREATED_ENGINE,
    PARKED_ENGINE,
)
"""All kinds of Emissary jobs."""
