"""Which jobs to poll next, and whether individually or with one list call. No network, no clock."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.polling import DeadlinePassed, Ended, Lost

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.polling import PollPlan
    from airflow_provider_lamini.jobs.state import PollHistory

WaitResult = Ended | DeadlinePassed | Lost

MIN_JOBS_FOR_LIST = 5
"""For fewer jobs, a list call never pays."""

BYTES_PER_POLL = 100_000
"""Parsing this much of a list takes about as long as one individual poll: a millisecond."""

PAUSE_PER_POLL = 0.05
"""Seconds of pause after a list call for each individual poll that it costs as much as: lists use at most 2% of a CPU."""

MAX_LIST_PAUSE = 10.0
"""Maximum seconds between two list calls, however large the list is."""

MIN_LIST_PAUSE = 0.25
"""Minimum seconds between two list calls, however small the list is."""

LIST_RETRY_AFTER = 600.0
"""Seconds without list calls after only the list failed, for example because a gateway cuts it off."""

BATCH_WINDOW = 0.2
"""Jobs that are due within this many seconds are polled in one batch: a poll right after another one costs half as much
as one that has to wake up the event loop."""

POLLS_PER_BATCH = 20
"""Maximum individual polls per batch: 100 per second, a tenth of a CPU. If more are due, as when thousands of jobs were
submitted together, the others wait for the next batch."""

LIST_WINDOW = 0.25
"""One list call may answer for all jobs that are due within this many seconds."""


class PollMode(Enum):
    """How to poll the jobs that are due."""

    INDIVIDUAL = "individual"
    LIST = "list"
    WAIT_FOR_LIST = "wait for list"
    """With a list call, but not yet."""


@dataclass(slots=True)
class ListPolicy:
    """Ski-rental rule: poll individually until that has cost as much as one list call.

    :param list_cost: what one list call costs, in individual polls
    """

    list_cost: int = MIN_JOBS_FOR_LIST
    not_before: float = 0.0
    """When the next list call is allowed."""
    disabled_until: float = 0.0
    in_progress: bool = False
    jobs_wait: bool = False
    """Whether jobs wait for the next list call."""
    _polls: int = 0
    """Individual polls since the last list call."""

    def choose(self, due: int, waiting: int, now: float) -> PollMode:
        """Choose how to poll.

        :param due: number of jobs that are due now
        :param waiting: number of all waiting jobs, including those
        :param now: monotonic time in seconds
        """
        if not self.enabled(now):
            return PollMode.INDIVIDUAL
        pays = due >= self.list_cost or (waiting >= self.list_cost and self._polls + due >= self.list_cost)
        if not pays and not self.jobs_wait:
            return PollMode.INDIVIDUAL
        self.jobs_wait = self.in_progress or now < self.not_before
        return PollMode.WAIT_FOR_LIST if self.jobs_wait else PollMode.LIST

    def enabled(self, now: float) -> bool:
        """Whether list calls are allowed at all.

        :param now: monotonic time in seconds
        """
        return now >= self.disabled_until

    def count_polls(self, polls: int) -> None:
        """Count individual polls.

        :param polls: how many start now
        """
        self._polls += polls

    def list_started(self) -> None:
        """Note that a list call starts."""
        self.in_progress = True

    def list_finished(self, now: float, size: int | None, *, disable: bool) -> None:
        """Note that the list call has finished or failed.

        :param now: monotonic time in seconds
        :param size: bytes of the response; ``None`` if there was none
        :param disable: whether only the list failed, so that individual polls may still work
        """
        self.in_progress = self.jobs_wait = False
        self._polls = 0
        if disable:
            self.disabled_until = now + LIST_RETRY_AFTER
        if size is not None:
            self.list_cost = max(MIN_JOBS_FOR_LIST, size // BYTES_PER_POLL)
        pause = max(self.list_cost * PAUSE_PER_POLL, MIN_LIST_PAUSE)
        self.not_before = now + min(pause, MAX_LIST_PAUSE)


@dataclass(slots=True)
class Waiter:
    """One wait for one job.

    :param number: unique number of the wait
    :param kind: the job's kind, which may be polled as another one
    :param job_id: the platform's id
    :param plan: how often to poll, and until when
    :param history: updated by each poll
    :param result: future of the result
    :param listed: whether the platform's list contains the job, as far as is known
    """

    number: int
    kind: JobKind
    job_id: str
    plan: PollPlan
    history: PollHistory
    result: asyncio.Future[WaitResult]
    listed: bool = True


HeapEntry = tuple[float, int]
"""When a job is due, and its waiter's number. Only numbers: Python's garbage collector traverses all long-lived
containers now and then, and with thousands of triggers that blocks the event loop."""


@dataclass(frozen=True, slots=True)
class PollRequest:
    """One request that polls one or more jobs.

    :param waiters: who waits for these jobs; exactly one unless ``by_list``
    :param by_list: whether it is a list call
    """

    waiters: list[Waiter]
    by_list: bool = False


@dataclass(slots=True)
class Queue:
    """The waiting jobs of one kind and scope, ordered by when they are due.

    :param kind: the kind of all the jobs
    :param scope: the scope of all the jobs
    :param phase: seconds by which its polls differ from those of other scopes, so that not all lists arrive at once
    """

    kind: JobKind
    scope: str = ""
    phase: float = 0.0
    heap: list[HeapEntry] = field(default_factory=list)
    waiters: dict[int, Waiter] = field(default_factory=dict)
    """By number: those in the heap, and those that are being polled."""
    list_policy: ListPolicy = field(default_factory=ListPolicy)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ready: deque[PollRequest] = field(default_factory=deque)
    """Requests of this batch that no worker has taken yet."""
    requests_done: int = 0
    task: asyncio.Task[None] | None = None

    def push(self, waiter: Waiter, due: float) -> None:
        """Add a job; wakes the queue's task if the job is the first one due.

        :param waiter: who waits for the job
        :param due: when to poll it, monotonic time in seconds
        """
        entry = (due, waiter.number)
        self.waiters[waiter.number] = waiter
        heapq.heappush(self.heap, entry)
        if self.heap[0] is entry:
            self.changed.set()

    def take(self, now: float) -> list[PollRequest]:
        """Remove the jobs that are due and return the requests that poll them.

        :param now: monotonic time in seconds
        """
        if not self.heap or self.heap[0][0] > now:
            return []
        if self.kind.list_statuses is None:
            return [PollRequest([waiter]) for waiter in self._pop(now + BATCH_WINDOW, POLLS_PER_BATCH)]
        due = self._pop(now + LIST_WINDOW, max(self.list_policy.list_cost, POLLS_PER_BATCH))
        listed = [waiter for waiter in due if waiter.listed]
        mode = self.list_policy.choose(len(listed), len(listed) + len(self.heap), now)
        if mode is PollMode.INDIVIDUAL:
            return self._individual(due, now)
        requests = self._individual([waiter for waiter in due if not waiter.listed], now)
        if mode is PollMode.LIST and listed:
            self.list_policy.list_started()
            return [PollRequest(listed + self._pop_listed(), by_list=True), *requests]
        for waiter in listed:
            self.push(waiter, max(self.list_policy.not_before, now + LIST_WINDOW))
        return requests

    def _pop(self, until: float, maximum: int) -> list[Waiter]:
        due: list[Waiter] = []
        while self.heap and self.heap[0][0] <= until and len(due) < maximum:
            waiter = self.waiters[heapq.heappop(self.heap)[1]]
            if waiter.result.done():  # its trigger was cancelled
                del self.waiters[waiter.number]
            else:
                due.append(waiter)
        return due

    def _pop_listed(self) -> list[Waiter]:
        """Remove all other jobs that a list call answers for, whether they are due or not."""
        rest = [entry for entry in self.heap if not self.waiters[entry[1]].listed]
        listed = [self.waiters[number] for _, number in self.heap if self.waiters[number].listed]
        heapq.heapify(rest)
        self.heap = rest
        return listed

    def _individual(self, due: list[Waiter], now: float) -> list[PollRequest]:
        for waiter in due[POLLS_PER_BATCH:]:
            self.push(waiter, now)
        batch = due[:POLLS_PER_BATCH]
        self.list_policy.count_polls(sum(waiter.listed for waiter in batch))
        return [PollRequest([waiter]) for waiter in batch]
