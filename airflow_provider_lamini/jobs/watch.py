"""The shared watch: everything in one process that waits for jobs of one platform, behind one client.

However many triggers wait, the platform sees few connections and evenly spread requests. Where the platform can list
jobs of a kind and that costs less, one request polls all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    ModelLoadingError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
)
from airflow_provider_lamini.jobs.kinds import EVERY_JOB, warn_about_unknown_status
from airflow_provider_lamini.jobs.polling import (
    Decision,
    Ended,
    PollAgain,
    decide_after_error,
    decide_after_status,
    first_poll,
)
from airflow_provider_lamini.jobs.schedule import BATCH_WINDOW, LIST_RETRY_AFTER, Queue, Waiter, WaitResult
from airflow_provider_lamini.jobs.state import JobState

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.jobs.kinds import JobKind, ListCall
    from airflow_provider_lamini.jobs.polling import PollPlan
    from airflow_provider_lamini.jobs.result_cache import ResultCache
    from airflow_provider_lamini.jobs.schedule import PollRequest
    from airflow_provider_lamini.jobs.state import JobStatus, PollHistory

Lookup = Callable[[], Awaitable["ClientSettings"]]

log = logging.getLogger(__name__)

PLATFORM_WIDE_ERRORS = (AuthenticationError, ModelLoadingError, RateLimitedError, UnavailableError)
"""Errors of a list call that individual polls would meet as well."""

MAX_REQUESTS = 16
"""Maximum concurrent requests."""

POLL_GRID = 0.5
"""Seconds. Slow polls are scheduled at multiples of this, so that they come in batches too."""

SLOW_POLL = 10.0
"""Poll intervals above this many seconds are slow."""

MIN_WORKERS = 2
"""Concurrent requests while the platform responds at once; more connections cost more to handle."""

WORKER_SPAWN_DELAY = 0.01
"""Seconds without a response after which another worker starts."""

YIELD_EVERY = 100
"""Jobs to decide on before other tasks of the event loop run: thousands of jobs may end at once."""

POLL_TIMEOUT = 60.0
"""Timeout of one poll in seconds, unless the connection's ``read_timeout`` is shorter. The schedule decides about retries."""

MAX_IN_MEMORY = 4_000_000
"""Maximum bytes of a response that a shared watch keeps in memory. Longer lists and results are read as they arrive, or not
at all: then each job is polled individually."""

NO_JITTER = 0.5
"""For jobs that were polled together: they stay together."""


@dataclass(slots=True)
class _List:
    """The last list of all jobs of a scope, and when it was read."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    statuses: Mapping[str, JobStatus] = field(default_factory=dict)
    read_at: float = -math.inf


class Watch:
    """Waits for jobs of one platform; belongs to one event loop.

    :param lookup: reads the connection; called once at the start, and again when the platform refuses the key
    :param cache: of a task that waits in its own process: receives the status responses that contain results. Such a task
        shares the watch with nobody, so polls need not be spread and start at once.
    """

    def __init__(self, lookup: Lookup, cache: ResultCache | None = None) -> None:
        self._lookup = lookup
        self._cache = cache
        self._pause = BATCH_WINDOW if cache is None else 0.0
        self._clients: list[AsyncClient] = []
        """The last one is in use; earlier ones may still have requests in progress."""
        self._settings: ClientSettings
        self._opening = asyncio.Lock()
        self._queues: dict[tuple[str, str], Queue] = {}
        self._lists: dict[tuple[str, str], _List] = {}
        self._numbers = itertools.count()
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._deciding = asyncio.Lock()
        """One response at a time: many lists may arrive at the same moment, and the event loop must get its turns."""

    def add(
        self, kind: JobKind, job_id: str, plan: PollPlan, history: PollHistory, *, jitter: float | None = None
    ) -> asyncio.Future[WaitResult]:
        """Poll one job until it has ended, its deadline has passed, or it is lost.

        :param kind: the kind of the job
        :param job_id: the platform's id
        :param plan: how often to poll, and until when
        :param history: updated by each poll
        :param jitter: a random number from 0 to 1 that jobs share which are polled for the first time together
        :return: future of the result; cancel it to stop polling. It raises a `PlatformError` if polling is not possible at
            all, or what looking up the connection raises
        """
        waiter = Waiter(
            next(self._numbers), kind, job_id, plan, history, asyncio.get_running_loop().create_future()
        )
        polled = kind.polled_as or kind
        # A poll that was under way when the last wait ended.
        known = None if self._cache is None else self._cache.status(polled.status(job_id).path)
        if known is not None and isinstance(end := _decide(waiter, known, time.time(), 0.0), Ended):
            waiter.result.set_result(end)
            return waiter.result
        scope = polled.scope_of(job_id)
        queue = self._queues.get((polled.name, scope))
        if queue is None:
            queue = self._queues[polled.name, scope] = Queue(polled, scope, phase=random.random() * POLL_GRID)
        if self._cache is not None:
            jitter = 0.0
        elif jitter is None:
            jitter = random.random()
        self._push(queue, waiter, first_poll(plan, time.time(), jitter))
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._run(queue), name=f"watch {polled.name} {scope}".rstrip())
        return waiter.result

    async def list_all(self, kind: JobKind, scope: str, *, max_age: float) -> Mapping[str, JobStatus]:
        """The statuses of all jobs of a scope. Everybody who asks within ``max_age`` shares one request.

        :param kind: the kind of the jobs; the platform must have a list of them
        :param scope: the scope, such as a project
        :param max_age: how old the list may be, in seconds
        :raises PlatformError: if the platform refused or did not respond
        """
        polled = kind.polled_as or kind
        if polled.list_statuses is None:
            raise ValueError(f"The platform has no list of {kind.title} jobs.")
        listed = self._lists.setdefault((polled.name, scope), _List())
        async with listed.lock:
            if time.monotonic() - listed.read_at > max_age:
                async with self._slots:
                    listed.statuses = await self._every_job(polled.list_statuses, scope)
                listed.read_at = time.monotonic()
        if kind.translate is None:
            return listed.statuses
        return {job_id: kind.translate(status) for job_id, status in listed.statuses.items()}

    async def _every_job(self, list_statuses: ListCall, scope: str) -> Mapping[str, JobStatus]:
        client = await self._client()
        try:
            return (await client.send(list_statuses(scope, EVERY_JOB))).statuses
        except AuthenticationError:
            await self._refresh_key()
            raise

    async def cancel(self, kind: JobKind, job_id: str) -> bool:
        """Ask the platform to cancel a job.

        :param kind: the kind of the job
        :param job_id: the platform's id
        :return: whether the platform can cancel jobs of this kind at all
        :raises PlatformError: if the platform refused or did not respond
        """
        if kind.cancel is None:
            return False
        client = await self._client()
        await client.send(kind.cancel(job_id))
        return True

    async def close(self) -> None:
        """Stop polling and close the connections."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()
        self._clients.clear()

    def _push(self, queue: Queue, waiter: Waiter, decision: Decision) -> None:
        if waiter.result.done():
            queue.waiters.pop(waiter.number, None)
        elif isinstance(decision, PollAgain):
            due = time.monotonic() + decision.seconds
            queue.push(waiter, due - (due + queue.phase) % POLL_GRID if decision.seconds > SLOW_POLL else due)
        else:
            waiter.result.set_result(decision)
            queue.waiters.pop(waiter.number, None)

    async def _run(self, queue: Queue) -> None:
        """Poll each job of a queue when it is due, until the queue is empty."""
        workers: set[asyncio.Task[None]] = set()
        try:
            while queue.heap or workers:
                now = time.monotonic()
                queue.changed.clear()
                queue.ready.extend(queue.take(now))
                if queue.ready:
                    await self._poll_ready(queue, workers)
                    await asyncio.sleep(self._pause)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(queue.heap[0][0] - now if queue.heap else None):
                            await queue.changed.wait()
        finally:
            for worker in workers:
                worker.cancel()
            if not queue.waiters:
                self._forget(queue)

    def _forget(self, queue: Queue) -> None:
        """Drop the empty queue of a scope: there may be any number of scopes over time."""
        if queue.scope and self._queues.get((queue.kind.name, queue.scope)) is queue:
            del self._queues[queue.kind.name, queue.scope]

    async def _poll_ready(self, queue: Queue, workers: set[asyncio.Task[None]]) -> None:
        """Poll all due jobs with 2 to 16 workers: more of them the slower the platform responds."""

        def finished(worker: asyncio.Task[None]) -> None:
            workers.discard(worker)
            queue.changed.set()

        requests_done = -1
        while queue.ready:
            stalled = queue.requests_done == requests_done
            if len(workers) < MIN_WORKERS or (stalled and len(workers) < MAX_REQUESTS):
                worker = asyncio.create_task(self._work(queue))
                workers.add(worker)
                worker.add_done_callback(finished)
            requests_done = queue.requests_done
            if len(workers) >= MIN_WORKERS:
                timeout = WORKER_SPAWN_DELAY if len(workers) < MAX_REQUESTS else None
                await asyncio.wait(workers, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    async def _work(self, queue: Queue) -> None:
        """Send one request after the other: a task per request would add a tenth to the cost of a poll."""
        while queue.ready:
            async with self._slots:
                if queue.ready:  # other workers may have taken the rest meanwhile
                    await self._poll(queue, queue.ready.popleft())
                    queue.requests_done += 1

    async def _poll(self, queue: Queue, request: PollRequest) -> None:
        """Send one request, and decide what follows for each of its jobs."""
        waiters = request.waiters
        if not request.by_list and waiters[0].result.done():  # its trigger was cancelled
            queue.waiters.pop(waiters[0].number, None)
            return
        try:
            statuses, error = await self._statuses(queue, request)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as unexpected:  # noqa: BLE001 - it ends these waits and no others
            # Some versions of Airflow raise a BaseException that is not an Exception when the connection lookup fails.
            for waiter in waiters:
                queue.waiters.pop(waiter.number, None)
                if not waiter.result.done():
                    waiter.result.set_exception(unexpected)
            return
        async with self._deciding:
            await self._decide_all(queue, request, error or statuses)

    async def _decide_all(
        self, queue: Queue, request: PollRequest, answers: Mapping[str, JobStatus] | PlatformError
    ) -> None:
        """Decide what follows for each job of a request."""
        now = time.time()
        for number, waiter in enumerate(request.waiters, 1):
            answer = answers if isinstance(answers, PlatformError) else answers.get(waiter.job_id)
            if answer is None:  # a list without the job says nothing about it
                waiter.listed = not queue.list_policy.enabled(time.monotonic())
                self._push(queue, waiter, PollAgain(0.0))
            else:
                jitter = NO_JITTER if request.by_list else random.random()
                self._push(queue, waiter, _decide(waiter, answer, now, jitter))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
                now = time.time()

    async def _statuses(
        self, queue: Queue, request: PollRequest
    ) -> tuple[Mapping[str, JobStatus], PlatformError | None]:
        """Return the statuses by job, or the platform's error."""
        try:
            if request.by_list and queue.kind.list_statuses is not None:
                return await self._list(queue, request.waiters, queue.kind.list_statuses), None
            return await self._individual(queue.kind, request.waiters[0]), None
        except PlatformError as error:
            if isinstance(error, AuthenticationError):
                await self._refresh_key()
            return {}, error

    async def _individual(self, kind: JobKind, waiter: Waiter) -> Mapping[str, JobStatus]:
        client, call = await self._client(), kind.status(waiter.job_id)
        if self._cache is None or not kind.status_call_returns_results:
            return {waiter.job_id: await client.send(call)}
        body, status = await client.send(call.with_body())
        if status.state is JobState.SUCCEEDED:
            self._cache.put(call.path, body, status)
        return {waiter.job_id: status}

    async def _list(
        self, queue: Queue, waiters: list[Waiter], list_statuses: ListCall
    ) -> Mapping[str, JobStatus]:
        """Send the list call, and find these jobs in its response.

        :return: the statuses of the jobs that the list contains; empty if the list is unusable
        """
        job_ids, size, disable = {waiter.job_id for waiter in waiters}, None, False
        statuses: Mapping[str, JobStatus] = {}
        try:
            client = await self._client()
            listing = await client.send(list_statuses(queue.scope, job_ids))
            statuses, size = listing.statuses, listing.size
        except PLATFORM_WIDE_ERRORS:
            raise
        except (PlatformError, ValueError) as error:
            disable = True
            log.warning(
                "Could not use the list of all jobs (%s); polling each job individually for %.0f minutes: %s",
                queue.kind.title,
                LIST_RETRY_AFTER / 60,
                error,
            )
        finally:
            queue.list_policy.list_finished(time.monotonic(), size, disable=disable)
        return statuses

    async def _client(self) -> AsyncClient:
        if self._clients and not self._opening.locked():
            return self._clients[-1]
        async with self._opening:
            if not self._clients:
                await self._use(await self._lookup())
            return self._clients[-1]

    async def _use(self, settings: ClientSettings) -> None:
        # The schedule retries failed polls, because it knows the deadline; the client must not.
        for_polls = replace(
            settings,
            read_timeout=min(POLL_TIMEOUT, settings.read_timeout),
            retry_budget=0.0,
            model_loading_budget=0.0,
            max_in_memory=MAX_IN_MEMORY if self._cache is None else None,
        )
        # One task has few jobs: importing the faster transport would take more CPU than it saves.
        fast = self._cache is None
        # In a thread: loading the CA certificates takes 50 ms.
        self._clients.append(await asyncio.to_thread(AsyncClient, for_polls, fast=fast))
        self._settings = settings

    async def _refresh_key(self) -> None:
        """Read the connection again: its key may have been rotated while jobs ran."""
        async with self._opening:
            settings = await self._lookup()
            if settings.fingerprint != self._settings.fingerprint:
                await self._use(settings)


def _decide(waiter: Waiter, answer: JobStatus | PlatformError, now: float, jitter: float) -> Decision:
    history, kind = waiter.history, waiter.kind
    if isinstance(answer, PlatformError):
        history.failed(answer, now)
        return decide_after_error(waiter.plan, answer, history.errors, now, jitter)
    answer = answer if kind.translate is None else kind.translate(answer)
    if history.answered(answer, now):
        warn_about_unknown_status(kind, answer)
    return decide_after_status(waiter.plan, answer, now, jitter)
