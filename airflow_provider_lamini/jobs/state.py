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
class PollHistory:
    """What the last looks at a job have shown.

    :param status: the last answer
    :param error: why the last look failed, if it did
    :param errors: how many looks in a row have failed
    :param alive_at: when a look last showed a job that had not ended, seconds since 1970
    """

    status: JobStatus | None = None
    error: PlatformError | None = None
    errors: int = 0
    last_alive_at: float | None = None
