"""The shared watch: everything in one process that waits on one platform, behind one client.

However many triggers wait, the platform sees few connections and evenly spread requests. Kinds of jobs that
can be listed are asked about together, with one request for all of them, where that costs less.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    ModelLoadingError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)
from airflow_provider_lamini.jobs.polling import (
    Decision,
    PollAgain,
    decide_after_error,
    decide_after_status,
    first_poll,
)
from airflow_provider_lamini.jobs.schedule import BATCH_SECONDS, WITHOUT_LIST, Queue, Waiter, WaitResult
from airflow_provider_lamini.jobs.state import JobState

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.jobs.answers import Answers
    from airflow_provider_lamini.jobs.kinds import JobKind, ListCall
    from airflow_provider_lamini.jobs.polling import PollPlan
    from airflow_provider_lamini.jobs.schedule import Group
    from airflow_provider_lamini.jobs.state import JobStatus, PollHistory

Lookup = Callable[[], Awaitable["ClientSettings"]]

log = logging.getLogger(__name__)

OF_THE_PLATFORM = (AuthenticationError, ModelLoadingError, RateLimitedError, UnavailableError)
"""Errors that a look at one job would meet as well as the list does."""

MAX_REQUESTS = 16
"""Requests under way at the most."""

POLL_GRID = 0.5
"""Seconds. Jobs that are looked at seldom are due at its multiples, so that their looks come in rows, too."""

SLOW_POLL = 10.0
"""Seconds between two looks that are seldom."""

MIN_WORKERS = 2
"""So many looks are under way where the platform answers at once; more connections cost more to look after."""

WORKER_SPAWN_DELAY = 0.01
"""Seconds after which the next look begins all the same, where the platform takes longer to answer."""

TURN = 100
"""So many jobs are decided on without giving others a turn: thousands that end at once wake as many triggers."""

POLL_TIMEOUT = 60.0
"""A look that takes longer (seconds), or than the connection's ``read_timeout``, has failed; the next one comes by the plan."""

NO_JITTER = 0.5
"""The chance that is no jitter: jobs that were answered for together stay together."""


class Watch:
    """Waits for the ends of jobs on one platform; belongs to one event loop.

    :param lookup: reads the connection; called once at the start and again where the platform refuses the key
    :param answers: of a task that waits in its own process: is left the answers that bring results. There are no others
        between whom looks would have to be spread, so that the first ones come at once.
    """

    def __init__(self, lookup: Lookup, answers: Answers | None = None) -> None:
        self._lookup = lookup
        self._answers = answers
        self._pause = BATCH_SECONDS if answers is None else 0.0
        self._clients: list[AsyncClient] = []
        """The last one is in use; earlier ones may still be answering."""
        self._settings: ClientSettings
        self._opening = asyncio.Lock()
        self._queues: dict[str, Queue] = {}
        self._numbers = itertools.count()
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    async def wait(self, kind: JobKind, job_id: str, plan: PollPlan, sight: PollHistory) -> WaitResult:
        """Wait until one job has ended, its deadline has passed or it is lost.

        :param kind: the kind of the job
        :param job_id: the platform's id
        :param plan: how often to look, and until when
        :param sight: is kept up to date while the wait lasts
        :return: what became of the job
        :raises PlatformError: where no look is possible at all, as with a connection that is not defined
        """
        return await self.outcome(kind, job_id, plan, sight)

    def outcome(
        self, kind: JobKind, job_id: str, plan: PollPlan, sight: PollHistory
    ) -> asyncio.Future[WaitResult]:
        """The same as :meth:`wait`, as a future; whoever waits no longer cancels it."""
        waiter = Waiter(next(self._numbers), job_id, plan, sight, asyncio.get_running_loop().create_future())
        queue = self._queues.setdefault(kind.name, Queue(kind))
        chance = random.random() if self._answers is None else 0.0
        self._push(queue, waiter, first_poll(plan, time.time(), chance))
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._run(queue), name=f"watch {kind.name}")
        return waiter.outcome

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

    def _push(self, queue: Queue, waiter: Waiter, decision: Decision) -> None:
        if waiter.outcome.done():
            queue.waiters.pop(waiter.number, None)
        elif isinstance(decision, PollAgain):
            due = time.monotonic() + decision.seconds
            queue.push(waiter, due - due % POLL_GRID if decision.seconds > SLOW_POLL else due)
        else:
            waiter.outcome.set_result(decision)
            queue.waiters.pop(waiter.number, None)

    async def _run(self, queue: Queue) -> None:
        """Look at each job of one kind when it is due, until none is left."""
        lanes: set[asyncio.Task[None]] = set()
        try:
            while queue.heap or lanes:
                now = time.monotonic()
                queue.changed.clear()
                queue.turn.extend(queue.take(now))
                if queue.turn:
                    await self._round(queue, lanes)
                    await asyncio.sleep(self._pause)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(queue.heap[0][0] - now if queue.heap else None):
                            await queue.changed.wait()
        finally:
            for lane in lanes:
                lane.cancel()

    async def _round(self, queue: Queue, lanes: set[asyncio.Task[None]]) -> None:
        """Have all that is due asked for, in few lanes, or in more where the platform takes its time."""

        def over(lane: asyncio.Task[None]) -> None:
            lanes.discard(lane)
            queue.changed.set()

        asked = -1
        while queue.turn:
            if len(lanes) < MIN_WORKERS or (queue.asked == asked and len(lanes) < MAX_REQUESTS):
                lane = asyncio.create_task(self._lane(queue))
                lanes.add(lane)
                lane.add_done_callback(over)
            asked = queue.asked
            if len(lanes) >= MIN_WORKERS:
                patience = WORKER_SPAWN_DELAY if len(lanes) < MAX_REQUESTS else None
                await asyncio.wait(lanes, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    async def _lane(self, queue: Queue) -> None:
        """One request after the other: a task for each would cost a tenth of the look."""
        while queue.turn:
            async with self._slots:
                if queue.turn:  # else others have been quicker
                    await self._look(queue, queue.turn.popleft())
                    queue.asked += 1

    async def _look(self, queue: Queue, group: Group) -> None:
        """One request for these jobs, and what follows from its answer."""
        waiters, together = group.waiters, group.list_statuses is not None
        if not together and waiters[0].outcome.done():  # nobody waits for it any more
            queue.waiters.pop(waiters[0].number, None)
            return
        try:
            found, failure = await self._try(queue, group)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - it ends these waits and no others
            # Some versions of Airflow fail to look a connection up with what is no Exception.
            for waiter in waiters:
                queue.waiters.pop(waiter.number, None)
                if not waiter.outcome.done():
                    waiter.outcome.set_exception(error)
            return
        now = time.time()
        for number, waiter in enumerate(waiters, 1):
            answer = failure or found.get(waiter.job_id)
            if answer is None:  # a list without the job says nothing of it
                waiter.listed = not queue.rounds.usable(time.monotonic())
                self._push(queue, waiter, PollAgain(0.0))
            else:
                chance = NO_JITTER if together else random.random()
                self._push(queue, waiter, _decide(waiter, answer, now, chance))
            if number % TURN == 0:
                await asyncio.sleep(0)
                now = time.time()

    async def _try(self, queue: Queue, group: Group) -> tuple[Mapping[str, JobStatus], PlatformError | None]:
        """Look, and take what the platform says against it for an answer too."""
        try:
            if group.list_statuses is not None:
                return await self._look_at_all(queue, group.waiters, group.list_statuses), None
            return await self._look_at_one(queue.kind, group.waiters[0]), None
        except PlatformError as error:
            if isinstance(error, AuthenticationError):
                await self._read_key_anew()
            return {}, error

    async def _look_at_one(self, kind: JobKind, waiter: Waiter) -> Mapping[str, JobStatus]:
        client, look = await self._open(), kind.status(waiter.job_id)
        if self._answers is None or not kind.status_call_returns_results:
            return {waiter.job_id: await client.send(look)}
        body, status = await client.send(look.with_body())
        if status.state is JobState.SUCCEEDED:
            self._answers.keep(look.path, body)
        return {waiter.job_id: status}

    async def _look_at_all(
        self, queue: Queue, waiters: list[Waiter], list_statuses: ListCall
    ) -> Mapping[str, JobStatus]:
        """Ask for the list, and find these jobs in it.

        :return: how the jobs stand that it holds; none where there is no use in it
        """
        job_ids, size, by_itself = {waiter.job_id for waiter in waiters}, None, False
        found: dict[str, JobStatus] = {}
        try:
            client = await self._open()
            listing = await client.send(list_statuses())
            for piece in listing.read(job_ids):
                found.update(piece)
                await asyncio.sleep(0)
            size = listing.size
        except OF_THE_PLATFORM:
            raise
        except (PlatformError, ValueError) as error:
            by_itself = True
            log.warning(
                "The list of all jobs (%s) cannot be used, each job is asked for by itself for %.0f minutes: %s",
                queue.kind.title,
                WITHOUT_LIST / 60,
                error,
            )
        finally:
            queue.rounds.list_over(time.monotonic(), size, by_itself=by_itself)
        return found

    async def _open(self) -> AsyncClient:
        if self._clients and not self._opening.locked():
            return self._clients[-1]
        async with self._opening:
            if not self._clients:
                await self._use(await self._lookup())
            return self._clients[-1]

    async def _use(self, settings: ClientSettings) -> None:
        # A look that failed is repeated by the plan, which knows the deadline; not inside the client.
        for_looks = replace(
            settings,
            read_timeout=min(POLL_TIMEOUT, settings.read_timeout),
            retry_budget=0.0,
            model_loading_budget=0.0,
        )
        # In a thread: reading the certificates of all authorities takes 50 ms.
        self._clients.append(await asyncio.to_thread(AsyncClient, for_looks, only_looks=True))
        self._settings = settings

    async def _read_key_anew(self) -> None:
        """Read the connection again: its key may have been rotated while jobs ran."""
        async with self._opening:
            settings = await self._lookup()
            if settings.fingerprint != self._settings.fingerprint:
                await self._use(settings)


def _decide(waiter: Waiter, answer: JobStatus | PlatformError, now: float, chance: float) -> Decision:
    sight = waiter.sight
    if isinstance(answer, PlatformError):
        sight.error, sight.errors = answer, sight.errors + 1
        return decide_after_error(waiter.plan, answer, sight.errors, now, chance)
    sight.error, sight.errors = None, 0
    if not answer.state.ended:
        sight.last_alive_at = now
    if sight.status != answer:
        sight.status = answer
    return decide_after_status(waiter.plan, answer, now, chance)
