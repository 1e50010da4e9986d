"""How a single job ended: by whose hand, and the exception that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import JobCancelledError, JobError, JobFailedError, JobTimedOutError

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission

KILL_SETTLES = 120.0
"""A job that is cancelled, and was not seen alive later than so many seconds after a try attached to it, was cancelled by the
killing of the try before: Airflow does not order that before the new try."""


def cancelled_with_previous_try(known: Submission, status: EndedJob | JobStatus) -> bool:
    """Whether a cancelled job was cancelled by the kill of the try before this one.

    :param known: its record
    :param status: how it ended
    """
    if known.attached_at is None:
        return False
    # How late the end is noticed does not matter: a poll, or a free worker, may take its time.
    last_alive_at = getattr(status, "last_alive_at", None) or known.attached_at
    return bool(last_alive_at - known.attached_at < KILL_SETTLES)


def job_error(kind: JobKind, job_id: str, status: EndedJob | JobStatus, next_step: str) -> JobError:
    """The exception that fits how a job ended.

    :param kind: the job's kind
    :param job_id: the platform's id
    :param status: how it ended
    :param next_step: what the user may do, a sentence
    """
    from airflow_provider_lamini.jobs.state import JobState

    kinds: dict[JobState, type[JobError]] = {
        JobState.CANCELLED: JobCancelledError,
        JobState.TIMED_OUT: JobTimedOutError,
    }
    reason = f": {status.detail}" if status.detail else ""
    return kinds.get(status.state, JobFailedError)(
        f"{kind.title} job {job_id} ended as {status.raw}{reason}. It no longer runs. {next_step}"
    )
