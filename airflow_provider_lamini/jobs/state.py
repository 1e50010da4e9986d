"""The states of a remote job, whatever the platform calls them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class JobState(str, Enum):
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
    :param progress: share done, 0 to 1, where the platform tells
    :param detail: a short text for a person, such as the platform's reason for a failure
    """

    job_id: str
    state: JobState
    raw: str
    progress: float | None = None
    detail: str | None = None
