"""What a task has of Airflow, and what a step of its work comes to: jobs to wait for, or a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

R = TypeVar("R")


class Log(Protocol):
    """A task's log. Airflow 2 and 3 have different classes for it."""

    def info(self, message: str, /, *args: object) -> object:
        """Log what is happening."""

    def warning(self, message: str, /, *args: object) -> object:
        """Log something that the user may not expect."""


class TaskStateStore(Protocol):
    """The part of Airflow's task state store that is used here."""

    def get(self, key: str) -> object:
        """Read a value."""
        ...

    def set(self, key: str, value: object) -> None:
        """Write a value."""
        ...

    def delete(self, key: str) -> None:
        """Remove a value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor:
    """Jobs are under way; the work continues when some of them have ended.

    :param kind: name of the jobs' kind, such as ``acme/tuning``
    :param job_ids: the platform's ids
    :param submitted_at: when the youngest job was submitted, a Unix timestamp. For its first minute, 'not found' is not
        final.
    :param min_ended: how many jobs must have ended before the work continues
    :param gather: seconds that a task in its worker then waits for the others
    :param progress: numbers for the log, from ``jobs.progress.Progress.payload``
    :param deadline: when this wait ends, a Unix timestamp, if that is earlier than the deadline of the try. The work then
        continues with an event that has `JobEvent.task_deadline`.
    """

    kind: str
    job_ids: Sequence[str]
    submitted_at: float
    min_ended: int = 1
    gather: float = 0.0
    progress: Mapping[str, float] | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The work is done.

    :param result: what the task returns
    """

    result: R
