"""What a trigger reports to its task: how each job stands. Small, and without data, prompts or keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.jobs.state import FailureCause, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended.

    :param state: how it ended
    :param raw: the platform's own status word
    :param detail: the platform's reason, if it gave one
    :param last_alive_at: when a poll last showed that it had not ended, Unix timestamp; ``None`` if no poll did
    :param cause: what the platform says about the reason of a failure, if it does
    """

    state: JobState
    raw: str
    detail: str | None = None
    last_alive_at: float | None = None
    cause: FailureCause | None = None

    def payload(self) -> dict[str, object]:
        """Return this as plain values."""
        payload: dict[str, object] = {
            "state": self.state.value,
            "raw": self.raw,
            "detail": self.detail,
            "last_alive_at": self.last_alive_at,
        }
        return payload if self.cause is None else payload | {"cause": self.cause.value}

    @classmethod
    def from_payload(cls, job: Mapping[str, Any]) -> EndedJob:
        """Read what `payload` has returned."""
        cause = job.get("cause")
        return cls(
            JobState(job["state"]),
            str(job["raw"]),
            job.get("detail"),
            job.get("last_alive_at"),
            None if cause is None else FailureCause(cause),
        )


@dataclass(frozen=True, slots=True)
class LostJob:
    """A job whose status can no longer be read.

    :param reason: the platform's error
    :param vanished: whether the platform says that the job does not exist; if not, it may still run
    :param refused: whether the platform refuses the key
    """

    reason: str
    vanished: bool
    refused: bool = False

    def payload(self) -> dict[str, object]:
        """Return this as plain values."""
        payload: dict[str, object] = {"reason": self.reason, "vanished": self.vanished}
        return payload | {"refused": True} if self.refused else payload

    @classmethod
    def from_payload(cls, job: Mapping[str, Any]) -> LostJob:
        """Read what `payload` has returned."""
        return cls(str(job["reason"]), bool(job["vanished"]), bool(job.get("refused")))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """How a task's jobs stand when the task resumes.

    :param ended: jobs that have ended, by id
    :param lost: jobs that cannot be polled any more, by id
    :param timed_out: whether the deadline passed before enough jobs had ended
    :param deadline: when waiting ends or ended, Unix timestamp
    :param pending: after the deadline: the jobs that had not ended
    :param last_error: after the deadline: the error of the last poll, if it failed
    :param task_deadline: the deadline of the task's try, Unix timestamp, if the wait had an earlier one of its own
    :param summary: for the task's log: how long the wait took, and what it saw; ``None`` from an older triggerer
    """

    ended: Mapping[str, EndedJob] = field(default_factory=dict)
    lost: Mapping[str, LostJob] = field(default_factory=dict)
    timed_out: bool = False
    deadline: float
    last_error: str | None = None
    pending: tuple[str, ...] = ()
    task_deadline: float | None = None
    summary: str | None = field(default=None, compare=False)

    def payload(self) -> dict[str, object]:
        """Return the event as plain values, for a ``TriggerEvent``."""
        payload: dict[str, object] = {
            "version": VERSION,
            "ended": {job_id: job.payload() for job_id, job in self.ended.items()},
            "lost": {job_id: job.payload() for job_id, job in self.lost.items()},
            "timed_out": self.timed_out,
            "deadline": self.deadline,
            "last_error": self.last_error,
            "pending": list(self.pending),
        }
        # Only if there is one: a worker of an older release knows no waits of this kind.
        if self.task_deadline is not None:
            payload["task_deadline"] = self.task_deadline
        if self.summary is not None:
            payload["summary"] = self.summary
        return payload

    @classmethod
    def from_payload(cls, payload: object) -> JobEvent:
        """Read an event that a trigger sent.

        :param payload: what Airflow passed to the task
        :raises ValueError: if it is not an event, such as ``None``, or if a newer version sent it
        """
        version = payload.get("version") if isinstance(payload, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise ValueError(
                f"The trigger sent an event of version {version}, and this worker reads version {VERSION}: the triggerer "
                "runs a newer airflow-provider-lamini. Update the worker, then clear the task: it attaches to its jobs."
            )
        if not isinstance(payload, dict) or version != VERSION:
            raise ValueError(
                "The task was resumed with something that is not an event of JobTrigger. Clear the task: it attaches "
                "to its jobs."
            )
        return cls(
            ended={str(job_id): EndedJob.from_payload(job) for job_id, job in payload["ended"].items()},
            lost={str(job_id): LostJob.from_payload(job) for job_id, job in payload["lost"].items()},
            timed_out=bool(payload["timed_out"]),
            deadline=float(payload["deadline"]),
            last_error=payload.get("last_error"),
            pending=tuple(map(str, payload.get("pending", ()))),
            task_deadline=payload.get("task_deadline"),
            summary=payload.get("summary"),
        )
