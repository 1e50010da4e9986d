"""What a trigger tells its task: how each watched job stands. Small, and without data, prompts or keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job on which the platform does no more.

    :param state: how it ended
    :param raw: the platform's own word
    :param detail: the platform's reason, where it gave one
    :param alive_at: when it was last seen before its end, seconds since 1970; ``None`` where it was not
    """

    state: JobState
    raw: str
    detail: str | None = None
    last_alive_at: float | None = None


@dataclass(frozen=True, slots=True)
class LostJob:
    """A job whose state cannot be read any more.

    :param reason: what the platform answered
    :param vanished: whether the platform says that there is no such job; else it may still run
    """

    reason: str
    vanished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """How the watched jobs stand when a task is woken.

    :param ended: the jobs that have ended, by id
    :param lost: the jobs at which looking was given up, by id
    :param timed_out: whether the deadline has passed before enough jobs had ended
    :param deadline: when waiting ends or ended, seconds since 1970
    :param pending: where time was up, the jobs that had not ended
    :param trouble: where time was up, why the last look at a job had failed
    """

    ended: Mapping[str, EndedJob] = field(default_factory=dict)
    lost: Mapping[str, LostJob] = field(default_factory=dict)
    timed_out: bool = False
    deadline: float
    trouble: str | None = None
    pending: tuple[str, ...] = ()

    def payload(self) -> dict[str, object]:
        """The event as plain values, for a ``TriggerEvent``."""
        return {
            "version": VERSION,
            "ended": {
                job_id: {
                    "state": job.state.value,
                    "raw": job.raw,
                    "detail": job.detail,
                    "last_alive_at": job.last_alive_at,
                }
                for job_id, job in self.ended.items()
            },
            "lost": {
                job_id: {"reason": job.reason, "vanished": job.vanished} for job_id, job in self.lost.items()
            },
            "timed_out": self.timed_out,
            "deadline": self.deadline,
            "trouble": self.trouble,
            "pending": list(self.pending),
        }

    @classmethod
    def from_payload(cls, payload: object) -> JobEvent:
        """Read an event that a trigger has sent.

        :param payload: what Airflow handed over
        :raises ValueError: where it is no event of this version; ``None`` is none
        """
        if not isinstance(payload, dict) or payload.get("version") != VERSION:
            raise ValueError(
                "The task was woken by something that is not an event of JobTrigger. Clear the task: it attaches "
                "to the jobs that it has submitted."
            )
        return cls(
            ended={
                str(job_id): EndedJob(
                    JobState(job["state"]), str(job["raw"]), job.get("detail"), job.get("last_alive_at")
                )
                for job_id, job in payload["ended"].items()
            },
            lost={
                str(job_id): LostJob(str(job["reason"]), bool(job["vanished"]))
                for job_id, job in payload["lost"].items()
            },
            timed_out=bool(payload["timed_out"]),
            deadline=float(payload["deadline"]),
            trouble=payload.get("trouble"),
            pending=tuple(map(str, payload.get("pending", ()))),
        )
