"""What all operators that wait for remote jobs have in common: submit, wait without a worker, fetch."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_lamini.exceptions import WaitTimeoutError
from airflow_provider_lamini.runs.arguments import paths_to_text
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.jobs.result_cache import ResultCache
    from airflow_provider_lamini.jobs.watch import Watch

R = TypeVar("R")

DAY = 86_400.0


class JobOperator(BaseOperator, Generic[R]):
    """Submits jobs, waits for them and fetches what they made.

    A concrete operator says in :meth:`check` what it accepts and in :meth:`advance` what is to be done now.
    ``advance`` is called at the start and whenever jobs have ended, in a new process each time, so what it
    must remember lies on storage.

    :param lamini_conn_id: the connection to the platform
    :param deferrable: wait in the triggerer, without holding a worker slot; by default as ``[operators]
        default_deferrable``
    :param poll_interval: seconds between two looks at a job at the most; young jobs are looked at more often
    :param timeout: seconds, or a ``timedelta``, that one try may take, counted by the clock while jobs run
        and while the task is deferred; afterwards the task fails, and a retry attaches to its jobs
    :param cancel_on_kill: cancel the jobs when the task is killed, cleared or marked by a person, where the
        platform can
    """

    template_fields: Sequence[str] = ("lamini_conn_id", "poll_interval", "timeout")
    ui_color = "#e8f0ea"

    def __init__(
        self,
        *,
        lamini_conn_id: str = "lamini_default",
        deferrable: bool | None = None,
        poll_interval: float | str = 30.0,
        timeout: float | str | timedelta = DAY,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write task.output["job_id"]
        super().__init__(**kwargs)
        self.lamini_conn_id = lamini_conn_id
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.started_at = 0.0
        self.killed = False
        self._waiting: WaitFor | None = None
        self.hook: PlatformHook
        self.settings: ClientSettings
        self.result_cache: ResultCache

    def make_hook(self) -> PlatformHook:
        """Return the hook of the operator's platform. Operators of other platforms override this."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(self.lamini_conn_id)

    @abstractmethod
    def check(self) -> None:
        """Validate the rendered arguments and turn them into what they mean.

        :raises InvalidArgumentError: where one is wrong; nothing has been sent by then
        """

    @abstractmethod
    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[R]:
        """Do what can be done now: attach or submit, harvest, submit more.

        :param context: Airflow's context
        :param event: what became of the jobs waited for; ``None`` at the start of a try
        :return: what to wait for, or the result
        :raises RowError: where rows or places cannot be used; to Airflow it is an :class:`InvalidArgumentError`
        """

    def execute(self, context: Context) -> R:
        """Begin a try of the task."""
        return self._go_on(context, None)

    def execute_complete(self, context: Context, event: object) -> R:
        """Go on after the trigger has seen jobs end.

        :param context: Airflow's context
        :param event: what the trigger has yielded
        """
        from airflow_provider_lamini.jobs.event import JobEvent

        return self._go_on(context, JobEvent.from_payload(event))

    def on_kill(self) -> None:
        """Cancel the jobs that are under way. Airflow calls it when a running task is killed."""
        self.killed = True
        if self._waiting is None:
            return
        if not self.cancel_on_kill:
            self.log.info(
                "cancel_on_kill is off: the jobs %s keep running.", ", ".join(self._waiting.job_ids)
            )
            return
        from airflow_provider_lamini.runs.event_loop import run_in_thread

        for line in run_in_thread(self._cancel(self._waiting)):
            self.log.info("%s", line)

    def _go_on(self, context: Context, event: JobEvent | None) -> R:
        from airflow_provider_lamini.jobs.result_cache import ResultCache
        from airflow_provider_lamini.runs.arguments import as_argument_errors
        from airflow_provider_lamini.runs.event_loop import LoopThread

        paths_to_text(self)
        self._check_waiting()
        self.check()
        # The try began when its deadline was set; the trigger hands it back.
        self.started_at = time.time() if event is None else event.deadline - self._timeout_seconds
        self.hook = self.make_hook()
        self.settings = self.hook.settings()
        self.result_cache = ResultCache()
        with self.hook, LoopThread() as apart:
            watch: Watch | None = None
            while True:
                if event is not None and event.timed_out:
                    self._fail_in_time(context, event)
                with as_argument_errors():
                    step = self.advance(context, event)
                if isinstance(step, Done):
                    return step.result
                self._waiting = step
                if self.deferrable:
                    self._defer(step)
                watch = watch or apart.enter(self._watch())
                event = apart.run(self._wait(watch, step))

    def _check_waiting(self) -> None:
        from airflow_provider_lamini.runs.arguments import flag, plain_name, positive_number, seconds

        self._poll_seconds = positive_number("poll_interval", self.poll_interval)
        self._timeout_seconds = seconds("timeout", self.timeout)
        plain_name("lamini_conn_id", self.lamini_conn_id)
        self.deferrable = flag("deferrable", self.deferrable)
        self.cancel_on_kill = flag("cancel_on_kill", self.cancel_on_kill)

    @property
    def _deadline(self) -> float:
        return self.started_at + self._timeout_seconds

    def _defer(self, step: WaitFor) -> NoReturn:
        from airflow_provider_lamini.triggers.job import JobTrigger

        self.defer(
            trigger=JobTrigger(
                conn_id=self.lamini_conn_id,
                kind=step.kind,
                job_ids=list(step.job_ids),
                submitted_at=step.submitted_at,
                deadline=self._deadline,
                poll_interval=self._poll_seconds,
                min_ended=step.min_ended,
                cancel_on_kill=self.cancel_on_kill,
                progress=dict(step.progress) if step.progress else None,
            ),
            method_name="execute_complete",
        )

    def _watch(self) -> AbstractAsyncContextManager[Watch]:
        from airflow_provider_lamini.hooks.watches import private_watch

        return private_watch(self.settings, self.result_cache)

    async def _wait(self, watch: Watch, step: WaitFor) -> JobEvent:
        """Wait in this process, by the same watch as a trigger's."""
        from airflow_provider_lamini.jobs.polling import PollPlan
        from airflow_provider_lamini.jobs.waiting import wait_with_progress
        from airflow_provider_lamini.platforms import job_kind

        plan = PollPlan(
            submitted_at=step.submitted_at, deadline=self._deadline, max_interval=self._poll_seconds
        )
        return await wait_with_progress(
            watch,
            job_kind(step.kind),
            step.job_ids,
            plan,
            min_ended=step.min_ended,
            progress=step.progress,
            log=partial(self.log.info, "%s"),
        )

    async def _cancel(self, step: WaitFor) -> list[str]:
        from airflow_provider_lamini.jobs.waiting import CANCEL_TIMEOUT, cancel_all
        from airflow_provider_lamini.platforms import job_kind

        async with self._watch() as watch, asyncio.timeout(CANCEL_TIMEOUT):
            return await cancel_all(watch, job_kind(step.kind), step.job_ids)

    def on_deadline(self, context: Context, event: JobEvent) -> str:
        """Do what is to be done about jobs that still run when the time is up.

        :param context: Airflow's context
        :param event: how the jobs stand
        :return: for the error: whether they still run and bill, and what a retry does
        """
        del context
        names = f"The jobs {', '.join(event.pending)}" if event.pending else "Its jobs"
        return f"{names} may still run and bill; a retry attaches to them."

    def _fail_in_time(self, context: Context, event: JobEvent) -> NoReturn:
        advice = "Raise timeout if the work is larger than expected."
        if event.last_error is not None:
            advice = f"The last poll failed: {event.last_error}"
        raise WaitTimeoutError(
            f"The task's timeout of {self._timeout_seconds:g} s has passed. {self.on_deadline(context, event)} {advice}"
        )
