"""The trigger that waits for remote jobs without holding a worker. It handles ids and states, never data."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lamini.wording import left_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from airflow_provider_lamini.jobs.event import JobEvent

VERSION = 1
"""Version of the arguments."""

MODULES = ("hooks.telemetry", "hooks.watches", "jobs.kinds", "jobs.polling", "jobs.progress", "jobs.waiting")
"""Modules that a waiting trigger needs, besides its platform."""

MIN_SECONDS = 10.0
"""Default of ``min_trigger_seconds``."""

GATHER_IN_TRIGGER = 1.0
"""Seconds that a trigger waits for more jobs once enough have ended: resuming the task costs far more."""

FREEZE_STEP = 500
"""With ``freeze_gc``: how many more triggers must wait than ever before until the next freeze, which takes 20 ms."""


class JobTrigger(BaseTrigger):
    """Waits until remote jobs have ended, and cancels them if a user ends the task.

    All job triggers of one triggerer that wait on the same connection share one client and one poll loop per kind.

    :param conn_id: the connection to the platform; the trigger looks it up when it runs
    :param kind: the kind of the jobs: platform and kind, such as ``acme/tuning``
    :param job_ids: the platform's ids of the jobs
    :param submitted_at: when the last of the jobs was submitted, Unix timestamp
    :param deadline: when waiting ends, Unix timestamp; it does not change when the trigger moves to another triggerer
    :param poll_interval: maximum seconds between polls; recently submitted jobs are polled more often
    :param min_ended: how many jobs must have ended before the task resumes
    :param cancel_on_kill: whether to cancel the jobs when the task is cleared or marked (Airflow 3.3 and newer)
    :param task_deadline: when the task's try ends, Unix timestamp, if this wait has an earlier ``deadline`` of its own
    :param progress: for the log: what the task had done before these jobs, made by ``jobs.progress.Progress.payload``
    :param version: version of these arguments
    :param unknown: arguments that this version does not know; they are refused
    :raises TypeError: for arguments of a newer version, or unknown ones; Airflow then fails the task with this message
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
        task_deadline: float | None = None,
        version: int = VERSION,
        **unknown: object,
    ) -> None:
        # A TypeError: of the errors that a trigger's constructor may raise, Airflow handles only this one.
        if version > VERSION:
            raise TypeError(
                f"JobTrigger got arguments of version {version}, and this triggerer knows version {VERSION}: a newer "
                "airflow-provider-lamini has deferred the task. Update the triggerer, then clear the task: it attaches "
                "to its jobs."
            )
        if unknown:
            raise TypeError(f"JobTrigger got unknown arguments: {', '.join(sorted(unknown))}.")
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
        self.task_deadline = task_deadline

    def serialize(self) -> tuple[str, dict[str, object]]:
        """Return the trigger's class and arguments: ids, times and numbers."""
        arguments: dict[str, object] = {
            "version": VERSION,
            "conn_id": self.conn_id,
            "kind": self.kind,
            "job_ids": self.job_ids,
            "submitted_at": self.submitted_at,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "min_ended": self.min_ended,
            "cancel_on_kill": self.cancel_on_kill,
            "progress": self.progress,
        }
        if self.task_deadline is not None:
            arguments["task_deadline"] = self.task_deadline
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event that says how the jobs stand.

        It yields no earlier than ``min_trigger_seconds`` after its start: a scheduler that has not yet read that the task's
        process ended would take that end for the end of the resumed task, and fail it.
        """
        may_yield_at = time.monotonic() + min_seconds()
        await load_kind(self.kind)
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        from airflow_provider_lamini.hooks.connection import InvalidConnectionError
        from airflow_provider_lamini.hooks.telemetry import waiting
        from airflow_provider_lamini.hooks.watches import shared_watch
        from airflow_provider_lamini.jobs.polling import PollPlan
        from airflow_provider_lamini.jobs.progress import Progress, ProgressLog
        from airflow_provider_lamini.jobs.waiting import wait_for_jobs
        from airflow_provider_lamini.platforms import job_kind, platform

        kind = job_kind(self.kind)
        plan = PollPlan(
            submitted_at=self.submitted_at, deadline=self.deadline, max_interval=self.poll_interval
        )
        done_before = Progress.from_payload(self.progress, jobs=len(self.job_ids))
        log = ProgressLog(done_before, info=self._report, warn=partial(self.log.warning, "%s"))
        try:
            with WAITING.counted(), waiting(self.kind, len(self.job_ids)):
                async with shared_watch(platform(kind.platform), self.conn_id) as watch:
                    event = await wait_for_jobs(
                        watch,
                        kind,
                        self.job_ids,
                        plan,
                        log,
                        min_ended=self.min_ended,
                        gather=GATHER_IN_TRIGGER,
                        not_before=may_yield_at,
                    )
        except AirflowNotFoundException:
            event = self._lost(
                f"Define the connection {self.conn_id!r} where the triggerer finds it, or set deferrable=False."
            )
        except InvalidConnectionError as error:
            event = self._lost(str(error))
        await asyncio.sleep(max(0.0, may_yield_at - time.monotonic()))
        yield TriggerEvent(replace(event, task_deadline=self.task_deadline).payload())

    def _lost(self, reason: str) -> JobEvent:
        """The event for jobs that cannot be polled, because the connection cannot be used."""
        from airflow_provider_lamini.jobs.event import JobEvent, LostJob

        lost = dict.fromkeys(self.job_ids, LostJob(reason, vanished=False))
        return JobEvent(lost=lost, deadline=self.deadline)

    def _report(self, line: str) -> None:
        """Log the progress, and report the requests so far: a wait may take days."""
        from airflow_provider_lamini.hooks.telemetry import report_requests

        self.log.info("%s", line)
        report_requests()

    async def on_kill(self) -> None:
        """Cancel the jobs: a user has ended the task. Called by Airflow 3.3 and newer."""
        await load_kind(self.kind)
        from airflow_provider_lamini.hooks.watches import shared_watch
        from airflow_provider_lamini.jobs.waiting import CANCEL_TIMEOUT, cancel_all
        from airflow_provider_lamini.platforms import job_kind, platform

        if not self.cancel_on_kill:
            # A sensor has no cancel_on_kill.
            self.log.info("%s", left_running(self.job_ids, "This task does not cancel jobs"))
            return
        kind = job_kind(self.kind)
        async with (
            shared_watch(platform(kind.platform), self.conn_id) as watch,
            asyncio.timeout(CANCEL_TIMEOUT),
        ):
            for line in await cancel_all(watch, kind, self.job_ids):
                self.log.info("%s", line)


def min_seconds() -> float:
    """Return the configured minimum seconds from a trigger's start to its event."""
    return float(conf.getfloat("airflow_provider_lamini", "min_trigger_seconds", fallback=MIN_SECONDS))


@cache
def freeze_gc() -> bool:
    """Return whether the configuration turns ``freeze_gc`` on."""
    return bool(conf.getboolean("airflow_provider_lamini", "freeze_gc", fallback=False))


class WaitingTriggers:
    """Counts the waiting triggers and, with ``freeze_gc``, excludes them from garbage collection.

    While 10,000 triggers start to wait, each full collection traverses more of their objects; at the end, one blocks the
    event loop for 0.3 s. Frozen objects are freed as usual when nothing refers to them; only cycles among them are not
    found any more. A freeze happens each time 500 more triggers wait than ever before, not as they come and go.
    """

    def __init__(self) -> None:
        self._count = 0
        self._maximum = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one more trigger while the block runs."""
        self._count += 1
        if self._count >= self._maximum + FREEZE_STEP:
            self._maximum = self._count
            if freeze_gc():
                gc.freeze()
        try:
            yield
        finally:
            self._count -= 1


WAITING = WaitingTriggers()
"""All job triggers of this process."""


async def load_kind(kind: str) -> None:
    """Import what a wait for jobs needs, in a thread: on the event loop it would block all triggers for 0.3 s.

    :param kind: the kind of the jobs: platform and kind
    """
    platform = kind.partition("/")[0]
    if platform not in _loaded:
        # A module that another thread is still importing would block the event loop too.
        await asyncio.to_thread(_import_all, kind)
        _loaded.add(platform)


def _import_all(kind: str) -> None:
    from airflow_provider_lamini.platforms import job_kind

    # With thousands of new objects, Python's garbage collector traverses everything: for 0.2 s no trigger runs. Nearly
    # all of those objects are modules, which stay for good.
    if freeze_gc():
        gc.freeze()
    for name in MODULES:
        import_module(f"airflow_provider_lamini.{name}")
    job_kind(kind)
    if freeze_gc():
        gc.freeze()


_loaded: set[str] = set()
"""Platforms whose modules are imported."""
