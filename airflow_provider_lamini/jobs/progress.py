"""What a task's log says while it waits: how far its jobs are, and whether the platform answers."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.jobs.state import JobStatus, PollHistory

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a task was done before its current jobs.

    :param jobs: number of current jobs
    :param done: rows done before them
    :param total: rows in total; 0 if the work is not counted in rows
    :param skipped: rows among ``done`` that an earlier attempt finished; they do not count for the speed
    :param since: when this attempt started, Unix timestamp
    """

    jobs: int
    done: int = 0
    total: int = 0
    skipped: int = 0
    since: float = 0.0

    @classmethod
    def from_payload(cls, payload: Mapping[str, float] | None, jobs: int) -> Progress:
        """Read what a task passed to its trigger.

        :param payload: made by :meth:`payload`; ``None`` if the work is not counted in rows
        :param jobs: number of current jobs
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
        """Return the numbers for a trigger's arguments."""
        values = asdict(self)
        del values["jobs"]
        return values

    def line(self, histories: Mapping[str, PollHistory], now: float | None = None) -> str:
        """Return one line for the task's log.

        :param histories: what the last polls have shown, by job
        :param now: Unix timestamp; by default the current time
        :return: rows done, rows per second and the remaining time; or the status of each job. While polls fail, no
            remaining time
        """
        now = time.time() if now is None else now
        failing = [history for history in histories.values() if history.error is not None]
        if not failing:
            return self._rows(histories, now) if self.total else self._statuses(histories)
        known = self._rows(histories) if self.total else self._statuses(histories)
        worst = max(failing, key=lambda history: history.errors)
        return (
            f"Could not read the status of a job ({worst.errors} time(s) in a row); will retry: {worst.error} "
            f"({known} at the last successful poll)"
        )

    def _rows(self, histories: Mapping[str, PollHistory], now: float | None = None) -> str:
        statuses = (history.status for history in histories.values())
        done = self.done + int(sum(status.rows.done for status in statuses if status and status.rows))
        text = f"{done:,} of {self.total:,} rows done, {self.jobs} job(s) in progress"
        if now is None:
            return text
        seconds = now - self.since
        if done <= self.skipped or seconds <= 0:
            return text
        speed = (done - self.skipped) / seconds
        return f"{text}, {speed:.3g} rows/s, about {duration((self.total - done) / speed)} left"

    def _statuses(self, histories: Mapping[str, PollHistory]) -> str:
        words = [
            f"job {job_id}: {describe(history.status)}"
            for job_id, history in histories.items()
            if history.status is not None
        ]
        return ", ".join(words) or f"{self.jobs} job(s) in progress"


class ProgressLog:
    """Logs the progress of one wait. It warns once when polls begin to fail, and says when they succeed again.

    :param progress: what was done before the wait
    :param info: logs one line
    :param warn: logs one line as a warning
    """

    def __init__(
        self, progress: Progress, *, info: Callable[[str], object], warn: Callable[[str], object]
    ) -> None:
        self._progress = progress
        self._info = info
        self._warn = warn
        self._failing = False

    def report(self, histories: Mapping[str, PollHistory]) -> None:
        """Log one line, and one more after an outage.

        :param histories: what the last polls have shown, by job
        """
        failing = any(history.error is not None for history in histories.values())
        if self._failing and not failing:
            self._info("The platform answers again.")
        log = self._warn if failing and not self._failing else self._info
        self._failing = failing
        log(self._progress.line(histories))


def describe(status: JobStatus) -> str:
    """Describe a status in a few words: the platform's word, and how far the job is.

    :param status: what the platform reported
    :return: such as ``TRAINING (75%)`` or ``Deactivated (inactive)``
    """
    known = status.detail or (str(status.progress) if status.progress else None)
    if status.state is JobState.INACTIVE:
        known = f"inactive, {known}" if known else "inactive"
    return f"{status.raw} ({known})" if known else status.raw


def duration(seconds: float) -> str:
    """Format a duration for users.

    :param seconds: the duration
    :return: such as ``45 s``, ``12 min`` or ``3.5 h``
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    if seconds < SECONDS_PER_HOUR:
        return f"{seconds / SECONDS_PER_MINUTE:.0f} min"
    return f"{seconds / SECONDS_PER_HOUR:.1f} h"
