"""Waiting for several jobs at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import JobNotFoundError, NotFoundError
from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.polling import DeadlinePassed, Ended, Lost, PollPlan
from airflow_provider_lamini.jobs.state import Sight

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.watch import Outcome, Watch

Report = Callable[[Mapping[str, Sight]], None]


async def wait_for(
    watch: Watch, kind: JobKind, job_ids: Sequence[str], plan: PollPlan, *, enough: int, report: Report
) -> JobEvent:
    """Wait until some of these jobs have ended or are lost, or the deadline has passed.

    :param watch: the watch on the platform
    :param kind: the kind of all the jobs
    :param job_ids: the platform's ids
    :param plan: how often to look, and until when
    :param enough: how many jobs must have ended before the wait is over
    :param report: is told about every ``plan.max_interval`` seconds what the last looks have shown
    :return: how the jobs stand that are no longer waited for
    :raises PlatformError: where the platform cannot be asked at all
    """
    sights = {job_id: Sight() for job_id in job_ids}
    pending = {
        asyncio.ensure_future(watch.wait(kind, job_id, plan, sight)): job_id
        for job_id, sight in sights.items()
    }
    over: dict[str, Outcome] = {}
    try:
        while pending and len(over) < enough:
            done, _ = await asyncio.wait(
                pending, timeout=plan.max_interval, return_when=asyncio.FIRST_COMPLETED
            )
            over.update({pending.pop(wait): wait.result() for wait in done})
            if not done:
                report(sights)
            if DeadlinePassed() in over.values():
                break
    finally:
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return _event(over, sights, plan.deadline)


def _event(over: Mapping[str, Outcome], sights: Mapping[str, Sight], deadline: float) -> JobEvent:
    ended, lost = {}, {}
    for job_id, outcome in over.items():
        if isinstance(outcome, Ended):
            ended[job_id] = EndedJob(outcome.status.state, outcome.status.raw, outcome.status.detail)
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
        trouble=troubles[-1] if timed_out and troubles else None,
    )
