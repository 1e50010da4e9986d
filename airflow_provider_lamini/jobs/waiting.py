"""Waiting for several jobs at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import JobNotFoundError, NotFoundError, PlatformError
from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.polling import (
    DeadlinePassed,
    Ended,
    Lost,
    PollPlan,
    report_interval,
)
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.jobs.state import PollHistory

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.schedule import WaitResult
    from airflow_provider_lamini.jobs.watch import Watch

Report = Callable[[Mapping[str, PollHistory]], None]


async def wait_for_jobs(
    watch: Watch, kind: JobKind, job_ids: Sequence[str], plan: PollPlan, *, min_ended: int, report: Report
) -> JobEvent:
    """Wait until some of these jobs have ended or are lost, or the deadline has passed.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :param plan: how often to look, and until when
    :param enough: how many jobs must have ended before the wait is over
    :param report: is told now and then what the last looks have shown, see :func:`~.polling.report_interval`
    :return: how the jobs stand that are no longer waited for
    :raises PlatformError: where the platform cannot be asked at all
    """
    sights = {job_id: PollHistory() for job_id in job_ids}
    pending = {watch.outcome(kind, job_id, plan, sight): job_id for job_id, sight in sights.items()}
    over: dict[str, WaitResult] = {}
    try:
        while pending and len(over) < min_ended:
            done, _ = await asyncio.wait(
                pending, timeout=report_interval(plan, time.time()), return_when=asyncio.FIRST_COMPLETED
            )
            over.update({pending.pop(wait): wait.result() for wait in done})
            if not done:
                report(sights)
            if DeadlinePassed() in over.values():
                break
    finally:
        for wait in pending:
            if not wait.cancel():
                wait.exception()  # else asyncio complains that nobody has looked at it
    return _event(over, sights, plan.deadline)


async def wait_with_progress(
    watch: Watch,
    kind: JobKind,
    job_ids: Sequence[str],
    plan: PollPlan,
    *,
    min_ended: int,
    progress: Mapping[str, float] | None,
    tell: Callable[[str], None],
) -> JobEvent:
    """The same as :func:`wait_for_jobs`, telling now and then how far the work is.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :param plan: how often to look, and until when
    :param enough: how many jobs must have ended before the wait is over
    :param progress: what was done when the wait began, see :meth:`~.progress.Progress.from_payload`
    :param tell: is told a line for the log
    :return: how the jobs stand that are no longer waited for
    :raises PlatformError: where the platform cannot be asked at all
    """
    known = Progress.from_payload(progress, jobs=len(job_ids))
    return await wait_for_jobs(
        watch,
        kind,
        job_ids,
        plan,
        min_ended=min_ended,
        report=lambda sights: tell(known.line(sights)),
    )


def _event(over: Mapping[str, WaitResult], sights: Mapping[str, PollHistory], deadline: float) -> JobEvent:
    ended, lost = {}, {}
    for job_id, outcome in over.items():
        if isinstance(outcome, Ended):
            ended[job_id] = EndedJob(
                outcome.status.state, outcome.status.raw, outcome.status.detail, sights[job_id].last_alive_at
            )
        elif isinstance(outcome, Lost):
            vanished = isinstance(outcome.error, JobNotFoundError | NotFoundError)
            lost[job_id] = LostJob(str(outcome.error), vanished)
    timed_out = len(ended) + len(lost) < len(over)
    troubles = [str(sight.error) for sight in sights.values() if sight.error is not None]
    return JobEvent(
        ended=ended,
        lost=lost,
        timed_out=timed_out,
        deadline=deadline,
        pending=tuple(
            job_id for job_id in sights if timed_out and job_id not in ended and job_id not in lost
        ),
        trouble=troubles[-1] if timed_out and troubles else None,
    )


CANCEL_TIMEOUT = 20.0
"""Seconds that cancelling may take; Airflow itself gives a trigger 30 by default."""


async def cancel_all(watch: Watch, kind: JobKind, job_ids: Sequence[str]) -> list[str]:
    """Cancel jobs, all at once.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :return: a sentence for each job: whether it still runs and bills
    """
    if kind.cancel is None:
        return [
            f"Job {job_id} ({kind.title}) cannot be cancelled, the platform has no call for it: it runs to its "
            "end, and bills."
            for job_id in job_ids
        ]
    answers = await asyncio.gather(
        *(watch.cancel(kind, job_id) for job_id in job_ids), return_exceptions=True
    )
    return [_sentence(kind, job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]


def _sentence(kind: JobKind, job_id: str, answer: bool | BaseException) -> str:
    if isinstance(answer, PlatformError):
        return f"Cancelling job {job_id} ({kind.title}) failed, it may still run and bill: {answer}"
    if isinstance(answer, BaseException):
        raise answer
    return f"Job {job_id} ({kind.title}) is cancelled."
