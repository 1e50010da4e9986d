"""The kinds of Lamini jobs. A new kind is one entry here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.kinds import JobKind, Listing
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, ProgressUnit
from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    classifiers,
    memory_rag,
    models,
    training,
    training_list,
)
from airflow_provider_lamini.platforms.lamini.failed_batches import ended_batch
from airflow_provider_lamini.wording import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_lamini.api.call import Call

_WORDS = {
    "CREATED": JobState.QUEUED,
    "SCHEDULED": JobState.QUEUED,
    "QUEUED": JobState.QUEUED,
    "PENDING": JobState.QUEUED,
    "LOADING DATA": JobState.RUNNING,
    "TRAINING MODEL": JobState.RUNNING,
    "EVALUATING MODEL": JobState.RUNNING,
    "SAVING MODEL": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "IN PROGRESS": JobState.RUNNING,
    "DOWNLOADING": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "AVAILABLE": JobState.SUCCEEDED,
    "PARTIALLY COMPLETED": JobState.PARTLY_SUCCEEDED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "CANCELED": JobState.CANCELLED,
    "TIMED OUT": JobState.TIMED_OUT,
}


def state_of(word: str) -> JobState:
    """Return the state behind one of Lamini's status words, in any case and with spaces or underscores.

    :param word: such as ``TRAINING MODEL`` or ``timed_out``
    :return: the state; ``UNKNOWN`` for an unknown word
    """
    return _WORDS.get(word.replace("_", " ").strip().upper(), JobState.UNKNOWN)


def tuning_status(job: training.TrainJob) -> JobStatus:
    """Return the status of a tuning job.

    :param job: what the platform says about it
    """
    state, raw = state_of(job.status), job.status
    if state is JobState.TIMED_OUT and (job.resume_count or 0) < (job.resume_limit or 0):
        state, raw = JobState.QUEUED, f"{job.status}, to be resumed by the platform"
    step = None if state.ended else job.last_step()
    if step is None:
        reason = job.detail if state.ended and isinstance(job.detail, str) else None
        return JobStatus(job.job_id, state, raw, detail=reason)
    progress = None if step.step is None else JobProgress(step.step, ProgressUnit.STEPS)
    return JobStatus(job.job_id, state, raw, progress, _describe_step(step))


def _describe_step(step: training.TrainingStep) -> str | None:
    """Describe how far a tuning job is, for users."""
    words = []
    if step.step is not None:
        words.append(f"step {step.step}")
    if step.loss is not None:
        words.append(f"loss {step.loss:.4g}")
    if step.learning_rate is not None:
        words.append(f"learning rate {step.learning_rate:.3g}")
    if step.remaining_time is not None:
        words.append(f"about {duration(step.remaining_time)} left")
    return ", ".join(words) or None


def _tuning_statuses(_: str, job_ids: Collection[str]) -> Call[Listing]:
    return training_list.list_all(job_ids, tuning_status).map(
        lambda jobs: Listing({status.job_id: status for status in jobs.found}, jobs.size)
    )


def classifier_status(job_id: str, job: classifiers.ClassifierJob) -> JobStatus:
    """Return the status of a classifier's job.

    :param job_id: the job
    :param job: what the platform says about it
    """
    if job.status is None:
        ended = job.model_id is not None
        return JobStatus(job_id, JobState.SUCCEEDED if ended else JobState.RUNNING, "no status reported")
    return JobStatus(job_id, state_of(job.status), job.status, detail=job.detail)


def _downloads(models_listed: list[models.DownloadedModel]) -> Mapping[str, JobStatus]:
    return {model.model_name: download_status(model) for model in models_listed}


def download_status(model: models.DownloadedModel) -> JobStatus:
    """Return the status of a model's download.

    :param model: what the platform says about it
    """
    raw = model.status or "no status reported"
    return JobStatus(model.model_name, state_of(raw), raw, detail=model.prev_download_error or None)


def _download_call(name: str) -> Call[JobStatus]:
    queued = JobStatus(name, JobState.QUEUED, "not listed yet")
    return models.list_downloaded().map(lambda found: _downloads(found).get(name, queued))


def _rows_status(job_id: str, done: int, total: int) -> JobStatus:
    """Return the status of a batch, which has none of its own: it has ended when each of its rows has."""
    progress = JobProgress(done, ProgressUnit.ROWS, total)
    if total == 0:
        return JobStatus(job_id, JobState.QUEUED, "no rows yet", progress)
    if done < total:
        return JobStatus(job_id, JobState.RUNNING, f"{done} of {total} rows", progress)
    return JobStatus(job_id, JobState.SUCCEEDED, f"all {total} rows", progress)


def _batch(title: str, status: Callable[[str], Call[JobStatus]]) -> JobKind:
    """The kind of a batch, which has no status of its own; an error in place of its result says how it has ended otherwise."""
    return JobKind(
        name=f"lamini/{title.replace(' ', '_')}",
        title=title,
        status=lambda job_id: replace(
            status(job_id), of_refusal=lambda code, text: ended_batch(job_id, state_of, code, text)
        ),
        status_call_returns_results=True,
    )


TUNING = JobKind(
    name="lamini/tuning",
    title="tuning",
    status=lambda job_id: training.job(job_id).map(tuning_status),
    list_statuses=_tuning_statuses,
    cancel=training.cancel,
    resume=training.resume,
)

MEMORY_RAG = JobKind(
    name="lamini/memory_rag",
    title="Memory RAG",
    status=lambda job_id: memory_rag.job(job_id).map(
        lambda job: JobStatus(job_id, state_of(job.status), job.status, detail=job.detail)
    ),
)

CLASSIFIER = JobKind(
    name="lamini/classifier",
    title="classifier",
    status=lambda job_id: classifiers.status(job_id).map(lambda job: classifier_status(job_id, job)),
    cancel=lambda job_id: classifiers.update_job(job_id=job_id, status="CANCELLED"),
)

BATCH_COMPLETIONS = _batch(
    "batch completions",
    lambda job_id: batches.completions_progress(job_id).map(
        lambda batch: _rows_status(job_id, batch.done, batch.total)
    ),
)

BATCH_EMBEDDINGS = _batch(
    "batch embeddings",
    lambda job_id: batches.embeddings_progress(job_id).map(lambda rows: _rows_status(job_id, rows, rows)),
)

MODEL_DOWNLOAD = JobKind(
    name="lamini/model_download",
    title="model download",
    status=_download_call,
    list_statuses=lambda *_: models.list_downloaded().map(lambda found: Listing(_downloads(found))),
)
"""The id of such a job is the model's name."""

JOB_KINDS = (TUNING, MEMORY_RAG, CLASSIFIER, BATCH_COMPLETIONS, BATCH_EMBEDDINGS, MODEL_DOWNLOAD)
"""All kinds of Lamini jobs."""
