"""The states of a remote job, whatever the platform calls them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_lamini.api.errors import PlatformError


class JobState(StrEnum):
    """Where a remote job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTLY_SUCCEEDED = "partly succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    UNKNOWN = "unknown"
    """A word that this version does not know. Never taken for an end."""

    @property
    def ended(self) -> bool:
        """Whether the platform will do no more on this job by itself."""
        return self in ENDED


ENDED = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.PARTLY_SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.TIMED_OUT,
    }
)

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
    """The state behind a platform's word, in any case and with spaces or underscores.

    :param word: the platform's word, such as ``TRAINING MODEL`` or ``timed_out``
    :return: the state; ``UNKNOWN`` for a word that is not known
    """
    return _WORDS.get(word.replace("_", " ").strip().upper(), JobState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the platform said of one job.

    :param job_id: the platform's id
    :param state: where the job stands
    :param raw: the platform's own word for it
    :param done: how much is done, in rows or steps, where the platform tells
    :param total: of how much
    :param detail: a short text for a person: while a job runs, how far it is; once it has ended, the platform's
        reason for a failure
    """

    job_id: str
    state: JobState
    raw: str
    done: int | None = None
    total: int | None = None
    detail: str | None = None


@dataclass(slots=True)
class Sight:
    """What the last looks at a job have shown.

    :param status: the last answer
    :param error: why the last look failed, if it did
    :param errors: how many looks in a row have failed
    :param alive_at: when a look last showed a job that had not ended, seconds since 1970
    """

    status: JobStatus | None = None
    error: PlatformError | None = None
    errors: int = 0
    alive_at: float | None = None
