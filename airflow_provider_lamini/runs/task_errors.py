"""Maps what ends a task to the exception it fails with: a user's mistake, storage that refuses, the end of a job."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
    KeyRefusedError,
    StorageError,
    UnsupportedOperationError,
)
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@contextmanager
def as_argument_errors(begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn errors that no retry can help into errors that Airflow does not retry.

    The new error takes the old one's cause, not the old one: its message, shown twice, would hide what happened.

    :param begun: whether the task has used its storage and may have submitted jobs. Then storage that refuses, returns a
        damaged ledger or no longer has the input is not the user's mistake, and a retry must attach to the jobs.
    :raises InvalidArgumentError: instead of a `RowError`, unless a retry may help
    :raises StorageError: instead of a `RowError` about storage that may work again
    :raises UnsupportedOperationError: instead of an `UnsupportedError` of the platform
    """
    from airflow_provider_lamini.api.errors import UnsupportedError
    from airflow_provider_lamini.rows.errors import (
        ConcurrentAccessError,
        InputMissingError,
        InputUnavailableError,
        RowError,
        StoreRefusedError,
        UnreadableLedgerError,
    )

    try:
        yield
    except ConcurrentAccessError:
        raise
    except InputUnavailableError as error:
        raise StorageError(f"{error} A retry reads it again.") from error.__cause__
    except (StoreRefusedError, UnreadableLedgerError, InputMissingError) as error:
        if begun():
            raise StorageError(
                f"{error} It worked before, so a retry may help. Jobs that were submitted may still run and bill; the retry "
                "attaches to them."
            ) from error.__cause__
        if isinstance(error, StoreRefusedError) and error.may_pass:
            raise StorageError(
                f"{error} The refusal may pass: a retry starts over. Nothing was sent."
            ) from error.__cause__
        raise InvalidArgumentError(str(error)) from error.__cause__
    except RowError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    except UnsupportedError as error:
        raise UnsupportedOperationError(str(error)) from error.__cause__


MAX_NAMED = 5
"""Jobs that a message names."""
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


@contextmanager
def tell_of_jobs(task: TaskRun, event: JobEvent | None) -> Iterator[None]:
    """If the connection cannot be used any more, say that the jobs that the task waited for go on.

    :param task: this try of the task
    :param event: what the trigger reported; ``None`` at the start of a try
    :raises JobLostError: instead of an error about the connection, once the task has waited for jobs. In a later try, the
        error about the connection says that there may be jobs.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_lamini.hooks.connection import InvalidConnectionError

    try:
        yield
    except (AirflowNotFoundException, InvalidConnectionError) as error:
        ended = {} if event is None else event.ended
        waited = (*task.job_ids, *(() if event is None else (*event.lost, *event.pending)))
        job_ids = [job_id for job_id in dict.fromkeys(waited) if job_id not in ended]
        if not (job_ids or ended):
            if task.identity.try_number == 1:
                raise
            earlier = "Jobs that an earlier try has submitted may still run and bill."
            if isinstance(error, InvalidConnectionError):
                raise InvalidConnectionError(error.conn_id, f"{error.problem} {earlier}") from None
            raise AirflowNotFoundException(f"{error} {earlier}") from None
        problem = str(error)
        if isinstance(error, AirflowNotFoundException):
            problem = f"Define the connection {task.conn_id!r}, which no longer exists."
        jobs = f"{counted(len(job_ids), 'job')} may still run and bill ({', '.join(job_ids[:MAX_NAMED])})"
        if not job_ids:
            jobs = "The jobs of this task have ended"
        raise JobLostError(f"{problem} {jobs}; a retry attaches to what was submitted.") from error


def lost_error(lost: LostJob, message: str) -> JobLostError:
    """The error for a job that cannot be polled any more, and may still run.

    :param lost: why it cannot
    :param message: what it means for the task, before the reason
    """
    return (KeyRefusedError if lost.refused else JobLostError)(f"{message} {lost.reason}")


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
