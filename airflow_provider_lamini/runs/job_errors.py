"""How the end of a job becomes an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import JobCancelledError, JobError, JobFailedError, JobTimedOutError

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission

KILL_SETTLES = 120.0
"""Seconds after which a kill of the previous try no longer explains why a job is cancelled.

Airflow starts a new try without waiting until the kill of the previous one is done.
"""


def cancelled_with_previous_try(submission: Submission, status: EndedJob | JobStatus) -> bool:
    """Whether a cancelled job was cancelled by the kill of the previous try.

    :param submission: its record
    :param status: how it ended
    """
    if submission.attached_at is None:
        return False
    # When the end is noticed does not matter: a poll, or a free worker, may take its time.
    last_alive_at = getattr(status, "last_alive_at", None) or submission.attached_at
    return bool(last_alive_at - submission.attached_at < KILL_SETTLES)


def job_error(kind: JobKind, job_id: str, status: EndedJob | JobStatus, advice: str) -> JobError:
    """Map a job's final state to an exception.

    :param kind: the job's kind
    :param job_id: the platform's id
    :param status: how it ended
    :param advice: what the user can do, a sentence
    """
    from airflow_provider_lamini.jobs.state import JobState

    errors: dict[JobState, type[JobError]] = {
        JobState.CANCELLED: JobCancelledError,
        JobState.TIMED_OUT: JobTimedOutError,
    }
    reason = f": {status.detail.rstrip(' .')}" if status.detail else ""
    return errors.get(status.state, JobFailedError)(
        f"{kind.subject} {job_id} ended as {status.raw}{reason}. It no longer runs. {advice}"
    )
