"""Waiting for several jobs at once, and cancelling them."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    JobNotFoundError,
    NotFoundError,
    PlatformError,
)
from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.polling import (
    FIRST_REPORT,
    DeadlinePassed,
    Ended,
    Lost,
    PollPlan,
    report_interval,
)
from airflow_provider_lamini.jobs.state import PollHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.progress import ProgressLog
    from airflow_provider_lamini.jobs.schedule import WaitResult
    from airflow_provider_lamini.jobs.watch import Watch

EARLY_REPORTS = 2
"""How many times between two regular reports polls that begin to fail, or succeed again, are reported at once: one outage."""

EARLY_REPORT_WITHIN = 1.0
"""Seconds within which that is reported."""

CANCEL_TIMEOUT = 20.0
"""Seconds that cancelling may take; by default Airflow gives a trigger 30."""


async def wait_for_jobs(
    watch: Watch,
    kind: JobKind,
    job_ids: Sequence[str],
    plan: PollPlan,
    log: ProgressLog,
    *,
    min_ended: int,
    gather: float = 0.0,
    not_before: float = 0.0,
) -> JobEvent:
    """Wait until enough of these jobs have ended or are lost, or the deadline has passed.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :param plan: how often to poll, and until when
    :param log: logs the progress at intervals (:func:`~.polling.report_interval`), and soon after polls have begun to fail or
        to succeed again
    :param min_ended: how many jobs must have ended or be lost before this returns
    :param gather: seconds to wait for the other jobs once enough have ended
    :param not_before: earliest moment to return unless all have ended, monotonic time in seconds
    :return: how the jobs stand, with a summary of the wait
    :raises PlatformError: if the platform cannot be polled at all
    """
    began = time.monotonic()
    histories = {job_id: PollHistory() for job_id in job_ids}
    together = random.random()
    pending = {
        watch.add(kind, job_id, plan, history, jitter=together): job_id
        for job_id, history in histories.items()
    }
    with _Reporter(log, histories, plan):
        results = await _results(pending, min_ended, gather, not_before)
    log.end(histories)
    summary = log.summary(histories, time.monotonic() - began)
    return replace(_event(results, histories, plan.deadline), summary=summary)


async def _results(
    pending: dict[asyncio.Future[WaitResult], str], min_ended: int, gather: float, not_before: float
) -> dict[str, WaitResult]:
    """The results by job, as soon as enough jobs have one. The futures of the others are cancelled."""
    results: dict[str, WaitResult] = {}
    any_ended = asyncio.Event()
    for future in pending:
        future.add_done_callback(lambda _: any_ended.set())
    until: float | None = None
    try:
        while pending and DeadlinePassed() not in results.values():
            if until is None and len(results) >= min_ended:
                until = max(time.monotonic() + gather, not_before)
            if until is not None and time.monotonic() >= until:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(until and until - time.monotonic()):
                    await any_ended.wait()
            any_ended.clear()
            done = [future for future in pending if future.done()]
            results.update({pending.pop(future): future.result() for future in done})
    finally:
        for future in pending:
            if not future.cancel():
                future.exception()  # otherwise asyncio logs that the exception was never retrieved
    return results


class _Reporter:
    """Logs the progress at intervals while its block runs, and soon after polls have begun to fail or to succeed again.

    While they alternate, the intervals hold: the log must not grow with each poll.

    With a timer of the event loop: a wait that ends at each interval and begins again makes some 20 objects each time, and
    those of 10,000 waits stop the event loop for 0.1 s when Python's garbage collector traverses them. For the same
    reason nothing here refers to itself once the block has ended.
    """

    def __init__(self, log: ProgressLog, histories: Mapping[str, PollHistory], plan: PollPlan) -> None:
        self._log = log
        self._histories = histories
        self._plan = plan
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._early_left = EARLY_REPORTS

    def __enter__(self) -> None:
        changed = self._changed
        for history in self._histories.values():
            history.on_change = changed
        self._start(min(FIRST_REPORT, report_interval(self._plan, time.time())), self._due)

    def __exit__(self, *_: object) -> None:
        for history in self._histories.values():
            history.on_change = None
        if self._timer is not None:
            self._timer.cancel()

    def _start(self, seconds: float, due: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, due)

    def _due(self) -> None:
        self._early_left = EARLY_REPORTS
        self._now()

    def _now(self) -> None:
        self._start(report_interval(self._plan, time.time()), self._due)
        self._log.report(self._histories)

    def _changed(self) -> None:
        failing = any(history.error is not None for history in self._histories.values())
        if failing is self._failing:
            return
        self._failing = failing
        # Not all waits at the same moment: one list call may have failed for thousands of them.
        early = random.random() * EARLY_REPORT_WITHIN
        if (
            self._early_left
            and self._timer
            and self._timer.when() - asyncio.get_running_loop().time() > early
        ):
            self._early_left -= 1
            self._start(early, self._now)


def _event(
    results: Mapping[str, WaitResult], histories: Mapping[str, PollHistory], deadline: float
) -> JobEvent:
    ended, lost = {}, {}
    for job_id, result in results.items():
        if isinstance(result, Ended):
            status = result.status
            ended[job_id] = EndedJob(
                status.state, status.raw, status.detail, histories[job_id].last_alive_at, status.cause
            )
        elif isinstance(result, Lost):
            vanished = isinstance(result.error, JobNotFoundError | NotFoundError)
            refused = isinstance(result.error, AuthenticationError)
            lost[job_id] = LostJob(str(result.error), vanished, refused)
    timed_out = len(ended) + len(lost) < len(results)
    errors = [str(history.error) for history in histories.values() if history.error is not None]
    pending = tuple(job_id for job_id in histories if job_id not in ended and job_id not in lost)
    return JobEvent(
        ended=ended,
        lost=lost,
        timed_out=timed_out,
        deadline=deadline,
        pending=pending if timed_out else (),
        last_error=errors[-1] if timed_out and errors else None,
    )


async def cancel_all(watch: Watch, kind: JobKind, job_ids: Sequence[str]) -> list[str]:
    """Cancel jobs, all at the same time; delete those whose kind says so.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :return: a sentence for each job: whether it still runs and bills
    """
    if kind.cancel is None:
        left = (
            "stays as it is, and may bill until somebody stops it."
            if kind.endless
            else "cannot be cancelled (the platform has no call for it): it runs to its end, and bills."
        )
        return [f"{kind.subject} {job_id} {left}" for job_id in job_ids]
    outcomes = await asyncio.gather(
        *(watch.cancel(kind, job_id) for job_id in job_ids), return_exceptions=True
    )
    return [_sentence(kind, job_id, outcome) for job_id, outcome in zip(job_ids, outcomes, strict=True)]


def _sentence(kind: JobKind, job_id: str, outcome: bool | BaseException) -> str:
    if isinstance(outcome, PlatformError):
        return f"Could not {kind.cancel_verb} {kind.noun} {job_id}; it may still run and bill: {outcome}"
    if isinstance(outcome, BaseException):
        raise outcome
    return f"{kind.cancelled.capitalize()} {kind.noun} {job_id}."
