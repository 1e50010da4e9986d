"""The one line that says how far a task's jobs are."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.jobs.state import PollHistory

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a task was done before the jobs that are waited for now.

    :param jobs: how many jobs are waited for
    :param done: rows done before
    :param total: rows in all; 0 where the work is not counted in rows
    :param skipped: rows among ``done`` that an earlier attempt had finished, which say nothing of the speed
    :param since: when this attempt began to work, seconds since 1970
    """

    jobs: int
    done: int = 0
    total: int = 0
    skipped: int = 0
    since: float = 0.0

    @classmethod
    def from_payload(cls, payload: Mapping[str, float] | None, jobs: int) -> Progress:
        """Read what a task has put into its trigger.

        :param payload: made by :meth:`payload`; ``None`` where the work is not counted
        :param jobs: how many jobs are waited for
        """
        values = payload or {}
        return cls(
            jobs=jobs,
            done=int(values.get("done", 0)),
            total=int(values.get("total", 0)),
            skipped=int(values.get("skipped", 0)),
            since=float(values.get("since", 0.0)),
        )

    def payload(self) -> dict[str, float]:
        """The numbers, for a trigger's arguments."""
        values = asdict(self)
        del values["jobs"]
        return values

    def line(self, sights: Mapping[str, PollHistory], now: float | None = None) -> str:
        """One line for the task's log.

        :param sights: what the last looks at the jobs have shown
        :param now: seconds since 1970; the clock's, if not given
        :return: rows done of total, rows per second and the time left; or the states of the jobs
        """
        now = time.time() if now is None else now
        parts = [self._rows(sights, now) if self.total else self._states(sights)]
        failing = [sight for sight in sights.values() if sight.error is not None]
        if failing:
            worst = max(failing, key=lambda sight: sight.errors)
            parts.append(f"the last {worst.errors} look(s) failed, trying on: {worst.error}")
        return "; ".join(parts)

    def _rows(self, sights: Mapping[str, PollHistory], now: float) -> str:
        done = self.done + sum(sight.status.done or 0 for sight in sights.values() if sight.status)
        text = f"{done:,} of {self.total:,} rows done, {self.jobs} job(s) under way"
        seconds = now - self.since
        if done <= self.skipped or seconds <= 0:
            return text
        speed = (done - self.skipped) / seconds
        return f"{text}, {speed:.3g} rows/s, about {duration((self.total - done) / speed)} left"

    def _states(self, sights: Mapping[str, PollHistory]) -> str:
        words = [
            f"job {job_id}: {sight.status.raw}" + (f" ({sight.status.detail})" if sight.status.detail else "")
            for job_id, sight in sights.items()
            if sight.status is not None
        ]
        return ", ".join(words) or f"{self.jobs} job(s) under way"


def duration(seconds: float) -> str:
    """A duration for a person.

    :param seconds: how long
    :return: such as ``45 s``, ``12 min`` or ``3.5 h``
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    if seconds < SECONDS_PER_HOUR:
        return f"{seconds / SECONDS_PER_MINUTE:.0f} min"
    return f"{seconds / SECONDS_PER_HOUR:.1f} h"
