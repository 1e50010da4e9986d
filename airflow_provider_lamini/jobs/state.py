"""The state of a remote job, independent of each platform's status words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.errors import PlatformError


class JobState(StrEnum):
    """State of a remote job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTLY_SUCCEEDED = "partly succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    INACTIVE = "inactive"
    """Parked by the platform until somebody wakes it: it has not ended and makes no progress."""
    UNKNOWN = "unknown"
    """A status word that this version does not know. Never taken for an end."""

    @property
    def ended(self) -> bool:
        """Whether the platform has finished with this job."""
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


class ProgressUnit(StrEnum):
    """What a platform counts a job's progress in."""

    ROWS = "rows"
    STEPS = "steps"
    PERCENT = "percent"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far one job is.

    :param done: rows, steps or percent done
    :param unit: unit of both numbers
    :param total: rows or steps in total, if the platform reports it
    """

    done: float
    unit: ProgressUnit
    total: float | None = None

    def __str__(self) -> str:
        if self.unit is ProgressUnit.PERCENT:
            return f"{self.done:g}%"
        total = "" if self.total is None else f" of {self.total:,g}"
        if self.unit is ProgressUnit.STEPS:
            return f"step {self.done:,g}{total}"
        return f"{self.done:,g}{total} rows"


class FailureCause(StrEnum):
    """What a platform says about the reason of a job's failure."""

    INPUT = "input"
    """What was sent."""
    PLATFORM = "platform"
    """The platform itself or the account: the same job may succeed later."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the platform reported about one job.

    :param job_id: the platform's id
    :param state: the job's state
    :param raw: the platform's own status word
    :param progress: how far the job is, if the platform reports it
    :param detail: short text for users: progress while the job runs, the platform's reason once it has failed
    :param cause: whether what was sent is the reason of a failure, or the platform; ``None`` if the platform does not say
    """

    job_id: str
    state: JobState
    raw: str
    progress: JobProgress | None = None
    detail: str | None = None
    cause: FailureCause | None = None

    @property
    def rows(self) -> JobProgress | None:
        """The progress, if the platform counts it in rows."""
        return self.progress if self.progress and self.progress.unit is ProgressUnit.ROWS else None


@dataclass(slots=True)
class PollHistory:
    """What the last polls of a job have shown.

    :param status: the last status
    :param error: error of the last poll, if it failed
    :param errors: number of failed polls in a row
    :param last_alive_at: when a poll last showed that the job had not ended, Unix timestamp
    :param last_alive: what that poll showed: how far the job was, which many platforms no longer say once it has ended
    :param last_error: error of the last poll that failed
    :param failing_since: when polls began to fail, Unix timestamp; ``None`` if the last one succeeded
    :param outages: how many times polls have begun to fail
    :param outage_seconds: seconds during which polls failed, without those since ``failing_since``
    :param on_change: called when polls begin to fail, and when they succeed again
    """

    status: JobStatus | None = None
    error: PlatformError | None = None
    errors: int = 0
    last_alive_at: float | None = None
    last_alive: JobStatus | None = None
    last_error: PlatformError | None = None
    failing_since: float | None = None
    outages: int = 0
    outage_seconds: float = 0.0
    on_change: Callable[[], None] | None = None

    def failed(self, error: PlatformError, now: float) -> None:
        """Note a poll that failed.

        :param error: why
        :param now: Unix timestamp
        """
        begins = self.error is None
        self.error = self.last_error = error
        self.errors += 1
        if begins:
            self.failing_since = now
            self.outages += 1
            self._changed()

    def answered(self, status: JobStatus, now: float) -> bool:
        """Note a poll that succeeded.

        :param status: what the platform reported
        :param now: Unix timestamp
        :return: whether it differs from what the last such poll showed
        """
        differs = self.status != status
        if differs:  # of two equal ones, the older one is kept: the garbage collector has seen it
            self.status = status
        if not status.state.ended:
            self.last_alive_at, self.last_alive = now, self.status
        if self.error is not None:
            self.outage_seconds = self.seconds_failing(now)
            self.error, self.errors, self.failing_since = None, 0, None
            self._changed()
        return differs

    def seconds_failing(self, now: float) -> float:
        """Return for how long polls have failed in all.

        :param now: Unix timestamp
        """
        since = now if self.failing_since is None else self.failing_since
        return self.outage_seconds + max(0.0, now - since)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
