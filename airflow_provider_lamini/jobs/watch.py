"""The shared watch: everything in one process that waits on one platform, behind one client.

However many triggers wait, the platform sees few connections and evenly spread requests. Kinds of jobs that
can be listed
are asked about together, with one request for all of them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import AuthenticationError, PlatformError
from airflow_provider_lamini.jobs.polling import (
    DeadlinePassed,
    Decision,
    Ended,
    Lost,
    PollAgain,
    PollPlan,
    after_error,
    after_status,
    first_look,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus, Sight

Outcome = Ended | DeadlinePassed | Lost
Lookup = Callable[[], Awaitable["ClientSettings"]]

LOOKS_AT_ONCE = 16
"""Requests under way at the most, for kinds that cannot be listed."""

TOGETHER_SECONDS = 0.25
"""Jobs that are due within this time are looked at in one go."""

LIST_FROM = 5
"""So many jobs of a listable kind due in one go are answered by one list, and with them all others that
wait."""

TIME_FOR_ONE_LOOK = 60.0
"""A look that takes longer (seconds) has failed; the next one comes by the plan."""


@dataclass(slots=True)
class _Waiter:
    job_id: str
    plan: PollPlan
    sight: Sight
    outcome: asyncio.Future[Outcome]
    listed: bool = True
    """Whether the platform's list holds the job, as far as is known."""


@dataclass(slots=True)
class _Queue:
    """The jobs of one kind, by the time when each is due."""

    kind: JobKind
    heap: list[tuple[float, int, _Waiter]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Watch:
    """Waits for the ends of jobs on one platform; belongs to one event loop.

    :param lookup: reads the connection; called once at the start and again where the platform refuses the key
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._clients: list[AsyncClient] = []
        """The last one is in use; earlier ones may still be answering."""
        self._settings: ClientSettings
        self._opening = asyncio.Lock()
        self._queues: dict[str, _Queue] = {}
        self._order = itertools.count()
        self._slots = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def wait(self, kind: JobKind, job_id: str, plan: PollPlan, sight: Sight) -> Outcome:
        """Wait until one job has ended, its deadline has passed or it is lost.

        :param kind: the kind of the job
        :param job_id: the platform's id
        :param plan: how often to look, and until when
        :param sight: is kept up to date while the wait lasts
        :return: what became of the job
        :raises PlatformError: where no look is possible at all, as with a connection that is not defined
        """
        waiter = _Waiter(job_id, plan, sight, asyncio.get_running_loop().create_future())
        queue = self._queues.setdefault(kind.name, _Queue(kind))
        self._push(queue, waiter, first_look(plan, time.time(), random.random()))
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._run(queue), name=f"watch {kind.name}")
        return await waiter.outcome

    async def cancel(self, kind: JobKind, job_id: str) -> bool:
        """Ask the platform to cancel a job.

        :param kind: the kind of the job
        :param job_id: the platform's id
        :return: whether the platform can cancel this kind at all
        :raises PlatformError: where the platform refused or did not answer
        """
        if kind.cancel is None:
            return False
        client = await self._open()
        await client.send(kind.cancel(job_id))
        return True

    async def close(self) -> None:
        """Stop watching and close the connections."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()
        self._clients.clear()

    def _push(self, queue: _Queue, waiter: _Waiter, decision: Decision) -> None:
        if waiter.outcome.done():
            return
        if isinstance(decision, PollAgain):
            heapq.heappush(queue.heap, (time.monotonic() + decision.seconds, next(self._order), waiter))
            queue.changed.set()
        else:
            waiter.outcome.set_result(decision)

    async def _run(self, queue: _Queue) -> None:
        """Look at each job of one kind when it is due, until none is left."""
        looks: set[asyncio.Task[None]] = set()
        try:
            while queue.heap or looks:
                due = self._take_due(queue)
                if due:
                    for group in self._groups(queue.kind, due):
                        await self._slots.acquire()
                        look = asyncio.create_task(self._look(queue, group))
                        looks.add(look)
                        look.add_done_callback(looks.discard)
                    continue
                queue.changed.clear()
                pause = queue.heap[0][0] - time.monotonic() if queue.heap else None
                with suppress(TimeoutError):
                    await asyncio.wait_for(queue.changed.wait(), pause)
        finally:
            for look in looks:
                look.cancel()

    @staticmethod
    def _take_due(queue: _Queue) -> list[_Waiter]:
        now = time.monotonic()
        if not queue.heap or queue.heap[0][0] > now:
            return []
        due = []
        while queue.heap and queue.heap[0][0] <= now + TOGETHER_SECONDS:
            due.append(heapq.heappop(queue.heap)[2])
        if queue.kind.look_all is not None and len(due) >= LIST_FROM:
            due.extend(entry[2] for entry in queue.heap)
            queue.heap.clear()
        return [waiter for waiter in due if not waiter.outcome.done()]  # a done one's trigger has left

    @staticmethod
    def _groups(kind: JobKind, due: list[_Waiter]) -> list[list[_Waiter]]:
        """The jobs that one request can answer for, together."""
        listed = [waiter for waiter in due if waiter.listed] if kind.look_all is not None else []
        if len(listed) < LIST_FROM:
            return [[waiter] for waiter in due]
        return [listed, *([waiter] for waiter in due if not waiter.listed)]

    async def _look(self, queue: _Queue, waiters: list[_Waiter]) -> None:
        """One request for these jobs, and what follows from its answer."""
        try:
            found, failure = await self._try(queue.kind, [waiter.job_id for waiter in waiters])
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - it ends these waits and no others
            # Some versions of Airflow fail to look a connection up with what is no Exception.
            for waiter in waiters:
                if not waiter.outcome.done():
                    waiter.outcome.set_exception(error)
            return
        finally:
            self._slots.release()
            queue.changed.set()
        now = time.time()
        for waiter in waiters:
            self._push(queue, waiter, self._decide(waiter, found.get(waiter.job_id), failure, now))

    @staticmethod
    def _decide(
        waiter: _Waiter, status: JobStatus | None, failure: PlatformError | None, now: float
    ) -> Decision:
        chance = random.random()
        sight = waiter.sight
        if status is not None:
            sight.status, sight.error, sight.errors = status, None, 0
            return after_status(waiter.plan, status, now, chance)
        if failure is None:  # a list without the job says nothing of it: ask for the job itself
            waiter.listed = False
            return PollAgain(0.0)
        sight.error, sight.errors = failure, sight.errors + 1
        return after_error(waiter.plan, failure, sight.errors, now, chance)

    async def _try(
        self, kind: JobKind, job_ids: list[str]
    ) -> tuple[Mapping[str, JobStatus], PlatformError | None]:
        """Ask, and take what the platform says against it for an answer too."""
        try:
            return await self._ask(kind, job_ids), None
        except PlatformError as error:
            if isinstance(error, AuthenticationError):
                await self._read_key_anew()
            return {}, error

    async def _ask(self, kind: JobKind, job_ids: list[str]) -> Mapping[str, JobStatus]:
        client = await self._open()
        if len(job_ids) == 1 or kind.look_all is None:
            status = await client.send(replace(kind.look(job_ids[0]), timeout=TIME_FOR_ONE_LOOK))
            return {status.job_id: status}
        return await client.send(replace(kind.look_all(), timeout=TIME_FOR_ONE_LOOK))

    async def _open(self) -> AsyncClient:
        async with self._opening:
            if not self._clients:
                self._use(await self._lookup())
            return self._clients[-1]

    def _use(self, settings: ClientSettings) -> None:
        # A look that failed is repeated by the plan, which knows the deadline; not inside the client.
        self._clients.append(AsyncClient(replace(settings, retry_budget=0.0, model_loading_budget=0.0)))
        self._settings = settings

    async def _read_key_anew(self) -> None:
        """Read the connection again: its key may have been rotated while jobs ran."""
        async with self._opening:
            settings = await self._lookup()
            if settings.fingerprint != self._settings.fingerprint:
                self._use(settings)
