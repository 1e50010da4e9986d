"""Cancelling a job, whichever task has started it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import push_job_url

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.runs.outcome import Log


def cancel_job(
    context: Context, hook: PlatformHook, kind: JobKind, job_id: str, log: Log
) -> dict[str, object]:
    """Cancel a job unless it has ended, and link to it.

    :param context: Airflow's context
    :param hook: the hook; it is closed afterwards
    :param kind: the job's kind
    :param job_id: the platform's id
    :param log: the task's log
    :return: ``job_id``, ``kind``, ``cancelled`` (whether it was cancelled here) and ``status``, the platform's word after that
    :raises InvalidArgumentError: if the platform cannot cancel jobs of this kind; nothing has been sent
    """
    if kind.cancel is None:
        raise InvalidArgumentError(
            f"kind is {kind.title}, and the platform cannot cancel such a job. Nothing was sent: unless job {job_id} has "
            "ended, it runs to its end, and bills. Wait for it, or correct kind."
        )
    with hook:
        push_job_url(context, hook.web_job_url(kind.short_name, job_id))
        status = hook.send(kind.status(job_id))
        running = not status.state.ended
        if running:
            hook.send(kind.cancel(job_id))
            status = hook.send(kind.status(job_id))
    log.info(
        "%s %s %s; its status is %s.",
        *(kind.subject, job_id, "is cancelled" if running else "had already ended", status.raw),
    )
    return {"job_id": job_id, "kind": kind.short_name, "cancelled": running, "status": status.raw}
