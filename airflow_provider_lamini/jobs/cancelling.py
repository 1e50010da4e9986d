"""Cancelling jobs when their task is ended by a person, and saying what became of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.watch import Watch

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
            f"Job {job_id} ({kind.name}) cannot be cancelled, the platform has no call for it: it runs to its "
            "end, and bills."
            for job_id in job_ids
        ]
    answers = await asyncio.gather(
        *(watch.cancel(kind, job_id) for job_id in job_ids), return_exceptions=True
    )
    return [_sentence(kind, job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]


def _sentence(kind: JobKind, job_id: str, answer: bool | BaseException) -> str:
    if isinstance(answer, PlatformError):
        return f"Cancelling job {job_id} ({kind.name}) failed, it may still run and bill: {answer}"
    if isinstance(answer, BaseException):
        raise answer
    return f"Job {job_id} ({kind.name}) is cancelled."
