"""One try of a task: who runs, until when, what it waits for, and what a kill cancels. No operator class is needed for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_lamini.exceptions import WaitTimeoutError
from airflow_provider_lamini.hooks.telemetry import span, waiting
from airflow_provider_lamini.hooks.watches import private_watch
from airflow_provider_lamini.jobs.polling import PollPlan
from airflow_provider_lamini.jobs.progress import Progress, ProgressLog
from airflow_provider_lamini.jobs.result_cache import ResultCache
from airflow_provider_lamini.jobs.waiting import CANCEL_TIMEOUT, cancel_all, wait_for_jobs
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.runs.arguments import flag, number, positive_number, seconds
from airflow_provider_lamini.runs.event_loop import LoopThread, run_in_thread
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.store_logs import quiet_store_clients
from airflow_provider_lamini.wording import left_running

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.jobs.watch import Watch
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.runs.outcome import Log, TaskStateStore
    from airflow_provider_lamini.triggers.job import JobTrigger

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """Which task of which run this is. It is the same for every try.

    :param dag: the Dag's id
    :param task: the task's id
    :param run: the run's id
    :param map_index: the index of a mapped task, else -1
    :param region_id: the execution of a task-group loop that the task belongs to, or of a mapping inside of its iteration;
        ``None`` for a task outside loops, also if it is mapped
    :param region_index: the iteration of that loop, all of which have map index -1, or the map index
    :param try_number: the number of this try, from 1; not part of the identity
    :param max_tries: the number of tries that Airflow makes by itself; not part of the identity
    """

    dag: str
    task: str
    run: str
    map_index: int = -1
    region_id: str | None = None
    region_index: int | None = None
    try_number: int = field(default=1, compare=False)
    max_tries: int = field(default=0, compare=False)

    @classmethod
    def of(cls, ti: object, *, in_loop: bool = False) -> TaskIdentity:
        """The identity of a task instance.

        :param ti: Airflow's task instance, ``context["ti"]``
        :param in_loop: whether it is in a task-group loop, so that the context has ``loop``
        """
        map_index = getattr(ti, "map_index", None)
        region_id = region_index = None
        # Airflow 3.4 gives mapped tasks outside loops a region, too. Their map index identifies them without it, and a task
        # that was mapped by an earlier Airflow gets a region when all of its instances are cleared.
        if in_loop:
            region_id, region_index = getattr(ti, "region_id", None), getattr(ti, "region_index", None)
        return cls(
            dag=str(getattr(ti, "dag_id")),  # noqa: B009 - the class differs between Airflow versions
            task=str(getattr(ti, "task_id")),  # noqa: B009
            run=str(getattr(ti, "run_id")),  # noqa: B009
            map_index=-1 if map_index is None else int(map_index),
            region_id=None if region_id is None else str(region_id),
            region_index=None if region_index is None else int(region_index),
            try_number=int(getattr(ti, "try_number", 1)),
            max_tries=int(getattr(ti, "max_tries", 0)),
        )

    def as_dict(self) -> dict[str, str | int]:
        """The identity as records and ledgers hold it. A region is only in it where the task has one."""
        found: dict[str, str | int] = {
            "dag": self.dag,
            "task": self.task,
            "run": self.run,
            "map_index": self.map_index,
        }
        if self.region_id is not None:
            found["region_id"] = self.region_id
        if self.region_index is not None:
            found["region_index"] = self.region_index
        return found

    @property
    def request_key(self) -> str:
        """Names the request behind this try: the run, or the clear of the task that led to it.

        All retries of one request share it: Airflow sets ``max_tries`` when a task is cleared, and at no other time.
        """
        return f"{'/'.join(map(str, self.as_dict().values()))}/{self.max_tries}"

    @property
    def retry_follows(self) -> bool:
        """Whether Airflow retries the task by itself if this try fails."""
        return self.try_number <= self.max_tries


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """How a task waits for its jobs.

    :param deferrable: wait in the triggerer instead of the worker
    :param poll_interval: maximum seconds between polls
    :param timeout: seconds that one try may take
    :param cancel_on_kill: cancel the jobs when the task is killed
    :param defer_after: seconds that a deferrable task first waits in its worker
    """

    deferrable: bool = False
    defer_after: float = 0.0
    poll_interval: float = 30.0
    timeout: float = 86_400.0
    cancel_on_kill: bool = True

    @classmethod
    def parse(
        cls,
        *,
        deferrable: object,
        poll_interval: object,
        timeout: float | str | timedelta,
        cancel_on_kill: object,
        defer_after: object,
    ) -> WaitOptions:
        """Validate the arguments of an operator, their templates rendered, and the setting ``defer_after``.

        :raises InvalidArgumentError: if one is wrong
        """
        return cls(
            poll_interval=positive_number("poll_interval", poll_interval),
            timeout=seconds("timeout", timeout),
            deferrable=flag("deferrable", deferrable),
            cancel_on_kill=flag("cancel_on_kill", cancel_on_kill),
            defer_after=number("[airflow_provider_lamini] defer_after", defer_after, minimum=0),
        )


class Work(Protocol[R]):
    """What a task does, in steps: each submits or fetches what it can, and says what to wait for.

    Each step may run in another process, so whatever the next one needs is on storage.
    """

    def advance(self, event: JobEvent | None, /) -> WaitFor | Done[R]:
        """Do what can be done now.

        :param event: what happened to the jobs that the task waited for; ``None`` at the start of a try
        :return: what to wait for, or the result
        :raises RowError: if rows, files or folders cannot be used; Airflow gets an `InvalidArgumentError`
        """
        ...

    def on_deadline(self, event: JobEvent, /) -> str:
        """Cancel the jobs that still run when ``timeout`` has passed, or leave them.

        :param event: the state of the jobs
        :return: a sentence for the error: whether the jobs still run and bill, and what a retry does
        """
        ...

    def close(self) -> None:
        """Close what is open, however the try ends. Called once, also after an error."""
        ...


class TaskRun:
    """One try of a task.

    :param context: Airflow's context
    :param hook: leads to the platform; the connection is looked up when it is first used
    :param options: how to wait; ``None`` for a task that never waits for jobs
    :param log: the task's log
    :param started_at: when the try started, a Unix timestamp; ``None`` for now. A task that was deferred passes the
        time of its first process, so that its deadline does not move.
    """

    def __init__(
        self,
        context: Context,
        *,
        hook: PlatformHook,
        options: WaitOptions | None = None,
        log: Log,
        started_at: float | None = None,
    ) -> None:
        self.context = context
        self.identity = TaskIdentity.of(context["ti"], in_loop=context.get("loop") is not None)
        self.hook = hook
        self.options = options or WaitOptions()
        self.log = log
        self.started_at = time.time() if started_at is None else started_at
        self.deadline = self.started_at + self.options.timeout
        self.killed = False
        self.begun = started_at is not None or self.identity.try_number > 1
        """Whether the task has used its storage and may have submitted something, in this process or an earlier one."""
        self.result_cache = ResultCache()
        """Results that came with a status, if the task waits in this process."""
        self.job_ids: dict[str, None] = {}
        """The jobs that this process has waited for or was resumed for, in order."""
        self.job_kind: str | None = None
        """Their kind, with its platform."""
        self.made: dict[str, str] = {}
        """What the task has made before it knows its result, such as a dataset, by the field of the result."""
        self.written: dict[str, Counts] = {}
        """The rows by outcome in each output folder, over all tries."""
        self.answered: Counts | None = None
        """The rows by outcome that were answered without an output folder."""
        self._cancelled_by_kill: WaitFor | None = None
        self._stack = ExitStack()

    @property
    def conn_id(self) -> str:
        """The connection to the platform."""
        return self.hook.conn_id

    @property
    def state_store(self) -> TaskStateStore | None:
        """Airflow's task state store; ``None`` before Airflow 3.3."""
        store: TaskStateStore | None = self.context.get("task_state_store")  # type: ignore[assignment]  # its values are JSON
        return store

    @cached_property
    def settings(self) -> ClientSettings:
        """How to reach the platform.

        :raises InvalidConnectionError: if the connection is wrong
        """
        return self.hook.settings()

    @property
    def client(self) -> Client:
        """The client of the hook.

        :raises InvalidConnectionError: if the connection is wrong
        """
        return self.hook.client()

    def __enter__(self) -> Self:
        self._stack.callback(self.hook.close)
        self._stack.enter_context(quiet_store_clients())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, work: Work[R], event: JobEvent | None = None) -> WaitFor | Done[R]:
        """Do the work: to its end, or, if the task is deferrable, until it has to wait for long.

        Jobs that end within ``defer_after`` seconds never need the triggerer. Only the first process of a try waits for
        them: the later ones know that the jobs take longer.

        :param work: what to do; it is closed when this returns
        :param event: what the trigger reported; ``None`` at the start of a try
        :return: the result, or what the trigger must wait for
        :raises WaitTimeoutError: if ``timeout`` passes first
        """
        if event is not None:
            if event.summary is not None:  # Airflow keeps only the log of a task's last trigger
                self.log.info("%s", event.summary)
            self.job_ids |= dict.fromkeys((*event.ended, *event.lost, *event.pending))
        with ExitStack() as stack:
            stack.callback(work.close)
            loop = stack.enter_context(LoopThread())
            watch: Watch | None = None
            wait_until = self.deadline
            if self.options.deferrable:
                wait_until = min(
                    wait_until, time.time() + (self.options.defer_after if event is None else 0.0)
                )
            while True:
                if event is not None and event.timed_out and event.task_deadline is None:
                    raise self._timeout_error(work, event)
                with span("advance", platform=self.hook.platform_name):
                    outcome = work.advance(event)
                if isinstance(outcome, Done):
                    return outcome
                self.cancel_on_kill(outcome)
                if self.options.deferrable and time.time() >= wait_until:
                    return outcome
                watch = watch or loop.enter(self._watch())
                with waiting(outcome.kind, len(outcome.job_ids)):
                    event = loop.run(self._wait(watch, outcome, wait_until))
                if event.timed_out and event.task_deadline is None and wait_until < self.deadline:
                    return outcome

    def cancel_on_kill(self, wait: WaitFor) -> None:
        """Remember which jobs a kill cancels from now on.

        :param wait: the jobs
        """
        self._cancelled_by_kill = wait
        self.remember_jobs(wait.kind, wait.job_ids)

    def remember_jobs(self, kind: str, job_ids: Iterable[str]) -> None:
        """Remember which jobs the task has, for whoever asks what it has done.

        :param kind: their kind, with its platform
        :param job_ids: the platform's ids
        """
        self.job_kind = kind
        self.job_ids |= dict.fromkeys(job_ids)

    def kill(self) -> None:
        """Stop submitting, and cancel the jobs that run, if the options say so. May be called in a signal handler."""
        self.killed = True
        wait = self._cancelled_by_kill
        if wait is None:
            return
        if not self.options.cancel_on_kill:
            self.log.info("%s", left_running(wait.job_ids))
            return
        for line in run_in_thread(self._cancel(wait)):
            self.log.info("%s", line)

    def trigger(self, wait: WaitFor) -> JobTrigger:
        """The trigger that waits instead of this process.

        :param wait: the jobs
        """
        from airflow_provider_lamini.triggers.job import JobTrigger

        return JobTrigger(
            conn_id=self.conn_id,
            kind=wait.kind,
            job_ids=list(wait.job_ids),
            submitted_at=wait.submitted_at,
            deadline=wait.deadline or self.deadline,
            task_deadline=None if wait.deadline is None else self.deadline,
            poll_interval=self.options.poll_interval,
            min_ended=wait.min_ended,
            cancel_on_kill=self.options.cancel_on_kill,
            progress=dict(wait.progress) if wait.progress else None,
        )

    def _watch(self) -> AbstractAsyncContextManager[Watch]:
        return private_watch(self.hook, self.result_cache)

    async def _wait(self, watch: Watch, wait: WaitFor, until: float) -> JobEvent:
        own = wait.deadline is not None and wait.deadline <= until
        plan = PollPlan(
            submitted_at=wait.submitted_at,
            deadline=min(until, wait.deadline or until),
            max_interval=self.options.poll_interval,
        )
        log = ProgressLog(
            Progress.from_payload(wait.progress, jobs=len(wait.job_ids)),
            info=partial(self.log.info, "%s"),
            warn=partial(self.log.warning, "%s"),
        )
        event = await wait_for_jobs(
            watch,
            job_kind(wait.kind),
            wait.job_ids,
            plan,
            log,
            min_ended=wait.min_ended,
            gather=wait.gather,
        )
        return replace(event, task_deadline=self.deadline) if own else event

    async def _cancel(self, wait: WaitFor) -> list[str]:
        async with self._watch() as watch, asyncio.timeout(CANCEL_TIMEOUT):
            return await cancel_all(watch, job_kind(wait.kind), wait.job_ids)

    def _timeout_error(self, work: Work[R], event: JobEvent) -> WaitTimeoutError:
        advice = "Raise timeout if the work is larger than expected."
        if event.last_error is not None:
            advice = f"The last poll failed: {event.last_error}"
        return WaitTimeoutError(
            f"The task's timeout of {self.options.timeout:g} s has passed. {work.on_deadline(event)} {advice}"
        )
