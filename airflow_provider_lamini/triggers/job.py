"""The trigger that waits for remote jobs without holding a worker. It sees states, never data."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lamini.triggers.gc_tuning import CROWD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


WAITING = ("hooks.watches", "platforms", "jobs.kinds", "jobs.polling", "jobs.progress", "jobs.waiting")
"""The modules that a wait needs."""


class JobTrigger(BaseTrigger):
    """Waits until remote jobs have ended, and cancels them if a person ends the task.

    All job triggers of one triggerer that wait on the same connection share one client and look at the
    platform together.

    :param conn_id: the connection to the platform; it is looked up when the trigger runs
    :param kind: the kind of the jobs, a name in ``jobs.kinds``
    :param job_ids: the platform's ids of the jobs
    :param submitted_at: when the youngest of the jobs was submitted, seconds since 1970
    :param deadline: when waiting ends, seconds since 1970; it stays the same when the trigger moves to
        another triggerer
    :param poll_interval: seconds between two looks at a job at the most; young jobs are looked at more often
    :param enough: how many jobs must have ended before the task is woken
    :param cancel_on_kill: whether to cancel the jobs when the task is cleared or marked (Airflow 3.3 or
        newer)
    :param progress: what of the task was already done before these jobs, for the log: see
        ``jobs.progress.Progress``
    """

    def __init__(
        self,
        *,
        conn_id: str,
        kind: str,
        job_ids: Sequence[str],
        submitted_at: float,
        deadline: float,
        poll_interval: float,
        min_ended: int = 1,
        cancel_on_kill: bool = True,
        progress: dict[str, float] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.kind = kind
        self.job_ids = list(job_ids)
        self.submitted_at = submitted_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.min_ended = min_ended
        self.cancel_on_kill = cancel_on_kill
        self.progress = progress

    def serialize(self) -> tuple[str, dict[str, object]]:
        """The trigger's class and arguments: ids, times and numbers."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "kind": self.kind,
                "job_ids": self.job_ids,
                "submitted_at": self.submitted_at,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "min_ended": self.min_ended,
                "cancel_on_kill": self.cancel_on_kill,
                "progress": self.progress,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event that says how the jobs stand."""
        await _load()
        from airflow_provider_lamini.hooks.watches import shared_watch
        from airflow_provider_lamini.jobs.polling import PollPlan
        from airflow_provider_lamini.jobs.waiting import wait_with_progress
        from airflow_provider_lamini.platforms import job_kind, platform

        kind = job_kind(self.kind)
        plan = PollPlan(
            submitted_at=self.submitted_at, deadline=self.deadline, max_interval=self.poll_interval
        )
        with CROWD.joined():
            async with shared_watch(platform(kind.platform), self.conn_id) as watch:
                event = await wait_with_progress(
                    watch,
                    kind,
                    self.job_ids,
                    plan,
                    min_ended=self.min_ended,
                    progress=self.progress,
                    tell=partial(self.log.info, "%s"),
                )
        yield TriggerEvent(event.payload())

    async def on_kill(self) -> None:
        """Cancel the jobs: a person has ended the task. Called by Airflow 3.3 and newer."""
        await _load()
        from airflow_provider_lamini.hooks.watches import shared_watch
        from airflow_provider_lamini.jobs.waiting import CANCEL_TIMEOUT, cancel_all
        from airflow_provider_lamini.platforms import job_kind, platform

        if not self.cancel_on_kill:
            self.log.info("The jobs %s go on: cancel_on_kill is off.", ", ".join(self.job_ids))
            return
        kind = job_kind(self.kind)
        async with (
            shared_watch(platform(kind.platform), self.conn_id) as watch,
            asyncio.timeout(CANCEL_TIMEOUT),
        ):
            for line in await cancel_all(watch, kind, self.job_ids):
                self.log.info("%s", line)


async def _load() -> None:
    """Import what a wait needs, in a thread: done by the first wait itself, it would hold all triggers up for 0.3 s."""
    global _is_loaded  # noqa: PLW0603 - modules are loaded once for a process, too
    if not _is_loaded:
        # A module that another thread is still importing would hold the event loop up as well.
        await asyncio.to_thread(_import_all)
        _is_loaded = True


def _import_all() -> None:
    # With thousands of new objects, Python's garbage collector goes through everything: for 0.2 s no trigger runs, and
    # nearly all that it looks at are modules, Airflow's and these, which stay for good. It is told to leave them out.
    gc.freeze()
    for name in WAITING:
        import_module(f"airflow_provider_lamini.{name}")
    gc.freeze()


_is_loaded = False
