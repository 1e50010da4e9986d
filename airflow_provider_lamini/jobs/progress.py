"""What a task's log says while it waits: how far its jobs are, and whether the platform answers."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import (
    JobNotFoundError,
    NotFoundError,
    ProtocolError,
    UnavailableError,
)
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_lamini.api.errors import PlatformError
    from airflow_provider_lamini.jobs.state import JobStatus, PollHistory

MAX_JOBS_SHOWN = 3
"""Jobs that a summary names; of more, it says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a task was done before its current jobs.

    :param jobs: number of current jobs
    :param done: rows done before them
    :param total: rows in total; 0 if the work is not counted in rows
    :param skipped: rows among ``done`` that an earlier attempt finished; they do not count for the speed
    :param since: when this attempt started, or the oldest of its jobs if that was earlier, Unix timestamp
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
        worst = max(failing, key=lambda history: history.errors)
        line = f"The last poll failed, still waiting: {reason(worst.error)}"
        if all(history.status is None for history in histories.values()):
            return line
        known = self._rows(histories) if self.total else self._statuses(histories, brief=True)
        return f"{line} ({known} at the last successful poll)"

    def state(self, histories: Mapping[str, PollHistory]) -> str:
        """Describe how far the jobs are at the end of a wait.

        :param histories: what the last polls have shown, by job
        """
        if self.total:
            ended = _ended(histories)
            return f"{ended} of {counted(self.jobs, 'job')} ended, {self._done(histories):,} of {self.total:,} rows done"
        shown = [
            f"job {job_id}: {_end(history)}" for job_id, history in islice(histories.items(), MAX_JOBS_SHOWN)
        ]
        more = f", and {len(histories) - MAX_JOBS_SHOWN} more" if len(histories) > MAX_JOBS_SHOWN else ""
        return ", ".join(shown) + more

    def _done(self, histories: Mapping[str, PollHistory]) -> int:
        statuses = (history.status for history in histories.values())
        return self.done + int(sum(status.rows.done for status in statuses if status and status.rows))

    def _rows(self, histories: Mapping[str, PollHistory], now: float | None = None) -> str:
        in_progress = f"{counted(self.jobs - _ended(histories), 'job')} in progress"
        if any(history.status is None for history in histories.values()):  # its rows would be missing
            return f"{in_progress}, waiting for the first status"
        done = self._done(histories)
        text = f"{done:,} of {self.total:,} rows done"
        if self.jobs:  # rows that are sent without a job have none
            text += f", {in_progress}"
        if now is None:
            return text
        seconds = now - self.since
        if done <= self.skipped or seconds <= 0:
            return text
        speed = (done - self.skipped) / seconds
        return f"{text}, {speed:.3g} rows/s, about {duration((self.total - done) / speed)} left"

    def _statuses(self, histories: Mapping[str, PollHistory], *, brief: bool = False) -> str:
        """The status of each job; in brief, without the platform's details, such as its estimate of the remaining time."""
        words = [
            f"job {job_id}: {describe(replace(history.status, detail=None) if brief else history.status)}"
            for job_id, history in histories.items()
            if history.status is not None
        ]
        return ", ".join(words) or f"{counted(self.jobs, 'job')} in progress"


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
        self._before = 0.0
        """Seconds of the outages before the one that was reported last."""

    def report(self, histories: Mapping[str, PollHistory]) -> None:
        """Log one line, and one more after an outage.

        :param histories: what the last polls have shown, by job
        """
        if all(history.error is None for history in histories.values()):
            self._end_outage(histories)
        log = self._info
        if not self._failing and any(history.error is not None for history in histories.values()):
            self._failing, self._before, log = True, _seconds_of_outages(histories), self._warn
        log(self._progress.line(histories))

    def end(self, histories: Mapping[str, PollHistory]) -> None:
        """Log the end of an outage that was reported, when the wait ends: that may be before all jobs were polled again.

        :param histories: what the last polls have shown, by job
        """
        if any(history.outages and history.error is None for history in histories.values()):
            self._end_outage(histories)

    def _end_outage(self, histories: Mapping[str, PollHistory]) -> None:
        if self._failing:
            self._failing = False
            self._info(
                f"The platform answers again, after {duration(_seconds_of_outages(histories) - self._before)}."
            )

    def summary(self, histories: Mapping[str, PollHistory], seconds: float) -> str:
        """Return one line about the whole wait, for a log that has none of the lines that were logged meanwhile.

        :param histories: what the last polls have shown, by job
        :param seconds: how long the wait took
        """
        return f"Waited {duration(seconds)}: {self._progress.state(histories)}{_outages(histories.values())}."


def _ended(histories: Mapping[str, PollHistory]) -> int:
    return sum(history.status.state.ended for history in histories.values() if history.status)


def _seconds_of_outages(histories: Mapping[str, PollHistory]) -> float:
    return max(history.outage_seconds for history in histories.values())


def reason(error: PlatformError | None) -> str:
    """Say why polls fail, and what to do. The rest of the error comes last.

    :param error: of the last poll
    """
    if error is None or error.status is None:
        return str(error)
    advice = ""  # of any other error, the advice is at its beginning
    if isinstance(error, UnavailableError | ProtocolError):
        advice = "Check it if this lasts. "
    elif isinstance(error, JobNotFoundError | NotFoundError):
        advice = "It may not know the new job yet. "
    return f"the platform answers {error.status}. {advice}{error}"


def _end(history: PollHistory) -> str:
    """Describe how a job has ended, and how far it was before, if its last status does not say so."""
    if history.status is None:
        return "no answer"
    text, before = describe(history.status), history.last_alive
    if not history.status.state.ended or before is None or "(" in text:
        return text
    last = str(before.progress) if before.progress else before.detail
    return f"{text}, before that {last}" if last else text


def _outages(histories: Iterable[PollHistory]) -> str:
    """Describe for how long the platform could not be polled; nothing if it always could."""
    now = time.time()
    worst = max(histories, key=lambda history: history.seconds_failing(now), default=None)
    if worst is None or not worst.outages:
        return ""
    error = worst.last_error
    why = (
        f"it answered {error.status}"
        if error and error.status
        else getattr(error, "detail", "") or "no answer"
    )
    return f"; polls failed {counted(worst.outages, 'time')}, for {duration(worst.seconds_failing(now))} in all ({why})"


def describe(status: JobStatus) -> str:
    """Describe a status in a few words: the platform's word, and how far the job is.

    :param status: what the platform reported
    :return: such as ``TRAINING (75%)`` or ``Deactivated (inactive)``
    """
    known = status.detail or (str(status.progress) if status.progress else None)
    if status.state is JobState.INACTIVE:
        known = f"inactive, {known}" if known else "inactive"
    return f"{status.raw} ({known})" if known else status.raw
