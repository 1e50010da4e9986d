"""The jobs that are watched, by the time when each is due, and what is asked for next. No network, no clock."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.polling import DeadlinePassed, Ended, Lost

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.kinds import JobKind, ListCall
    from airflow_provider_lamini.jobs.polling import PollPlan
    from airflow_provider_lamini.jobs.state import PollHistory


from enum import Enum

LIST_FROM = 5
"""A list is never worth it for fewer jobs."""

BYTES_OF_ONE_LOOK = 100_000
"""Reading this much of a list takes about as long as one look at one job: a millisecond."""

SECONDS_PER_LOOK = 0.05
"""After a list, so much time passes for each look that it was worth: lists take 2% of a processor at most."""

LONGEST_PAUSE = 10.0
"""Seconds between two lists, however large they are."""

SHORTEST_PAUSE = 0.25
"""Seconds between two lists, however small they are."""

WITHOUT_LIST = 600.0
"""Seconds without lists after one that failed by itself, as where a gateway cuts it off."""


class PollMode(Enum):
    """How to ask."""

    EACH = "each"
    LIST = "list"
    LATER = "later"
    """With a list, which is not to be asked for yet."""


@dataclass(slots=True)
class ListPolicy:
    """Decides for the jobs of one kind.

    :param worth: as many looks at one job take as long as one list
    """

    worth: int = LIST_FROM
    not_before: float = 0.0
    """When the next list may be asked for."""
    without_until: float = 0.0
    under_way: bool = False
    wanted: bool = False
    """Whether jobs wait for the next list."""
    _each: int = 0
    """Looks at one job since the last list."""

    def way(self, due: int, waiting: int, now: float) -> PollMode:
        """Decide how to ask.

        :param due: jobs that are due now
        :param waiting: all jobs that wait, those included
        :param now: seconds, from any start
        """
        if not self.usable(now):
            return PollMode.EACH
        pays = due >= self.worth or (waiting >= self.worth and self._each + due >= self.worth)
        if not pays and not self.wanted:
            return PollMode.EACH
        self.wanted = self.under_way or now < self.not_before
        return PollMode.LATER if self.wanted else PollMode.LIST

    def usable(self, now: float) -> bool:
        """Whether there is use in the list at all.

        :param now: seconds, from any start
        """
        return now >= self.without_until

    def asked_each(self, jobs: int) -> None:
        """Note that so many jobs are asked about one by one."""
        self._each += jobs

    def list_begins(self) -> None:
        """Note that the list is asked for."""
        self.under_way = True

    def list_over(self, now: float, size: int | None, *, by_itself: bool) -> None:
        """Note that the list was answered, or was not.

        :param now: seconds, from any start
        :param size: bytes of the answer; ``None`` where there was none
        :param by_itself: whether only the list failed, and single jobs can perhaps be asked for all the same
        """
        self.under_way = self.wanted = False
        self._each = 0
        if by_itself:
            self.without_until = now + WITHOUT_LIST
        if size is not None:
            self.worth = max(LIST_FROM, size // BYTES_OF_ONE_LOOK)
        self.not_before = now + min(max(self.worth * SECONDS_PER_LOOK, SHORTEST_PAUSE), LONGEST_PAUSE)


WaitResult = Ended | DeadlinePassed | Lost

BATCH_SECONDS = 0.2
"""Jobs that are due within this time are looked at in one go: a look right after another costs half as much as one
that has to wake everything up."""

POLLS_PER_BATCH = 20
"""So many jobs are asked about one by one in one go: 100 a second, a tenth of a processor. Where more are due, as
when thousands were submitted together, each waits for its turn."""

LIST_WINDOW = 0.25
"""Jobs of a listable kind that are due within this time may be answered by one list."""


@dataclass(slots=True)
class Waiter:
    """Somebody who waits for a job.

    :param number: differs from all others'
    :param job_id: the platform's id
    :param plan: how often to look, and until when
    :param sight: is kept up to date by each look
    :param outcome: is told what became of the job
    :param listed: whether the platform's list holds the job, as far as is known
    """

    number: int
    job_id: str
    plan: PollPlan
    sight: PollHistory
    outcome: asyncio.Future[WaitResult]
    listed: bool = True


Entry = tuple[float, int]
"""When a waiter is due, and its number. Of numbers only: what a look leaves behind for long makes Python's garbage
collector go through everything now and then, and with thousands of triggers that stops the loop."""


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that one request answers for.

    :param waiters: who waits for them; one where there is no ``list_statuses``
    :param look_all: asks for the list
    """

    waiters: list[Waiter]
    list_statuses: ListCall | None = None


@dataclass(slots=True)
class Queue:
    """The jobs of one kind, by the time when each is due."""

    kind: JobKind
    heap: list[Entry] = field(default_factory=list)
    waiters: dict[int, Waiter] = field(default_factory=dict)
    """By their numbers: those in the heap, and those that are being asked for."""
    rounds: ListPolicy = field(default_factory=ListPolicy)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    turn: deque[Group] = field(default_factory=deque)
    """What is to be asked for in this round."""
    asked: int = 0
    """How many requests are over."""
    task: asyncio.Task[None] | None = None

    def push(self, waiter: Waiter, due: float) -> None:
        """Add a job; whoever sleeps until the first one is due is told of a new first one."""
        entry = (due, waiter.number)
        self.waiters[waiter.number] = waiter
        heapq.heappush(self.heap, entry)
        if self.heap[0] is entry:
            self.changed.set()

    def take(self, now: float) -> list[Group]:
        """Take out what is to be asked for now, each group with one request."""
        if not self.heap or self.heap[0][0] > now:
            return []
        if self.kind.list_statuses is None:
            return [Group([waiter]) for waiter in self._pop(now + BATCH_SECONDS, POLLS_PER_BATCH)]
        due = self._pop(now + LIST_WINDOW, max(self.rounds.worth, POLLS_PER_BATCH))
        listed = [waiter for waiter in due if waiter.listed]
        way = self.rounds.way(len(listed), len(listed) + len(self.heap), now)
        if way is PollMode.EACH:
            return self._each(due, now)
        groups = self._each([waiter for waiter in due if not waiter.listed], now)
        if way is PollMode.LIST and listed:
            self.rounds.list_begins()
            return [Group(listed + self._pop_listed(), self.kind.list_statuses), *groups]
        for waiter in listed:
            self.push(waiter, max(self.rounds.not_before, now + LIST_WINDOW))
        return groups

    def _pop(self, until: float, most: int) -> list[Waiter]:
        due: list[Waiter] = []
        while self.heap and self.heap[0][0] <= until and len(due) < most:
            waiter = self.waiters[heapq.heappop(self.heap)[1]]
            if waiter.outcome.done():  # its trigger has left
                del self.waiters[waiter.number]
            else:
                due.append(waiter)
        return due

    def _pop_listed(self) -> list[Waiter]:
        """All others that a list answers for, be they due or not."""
        rest = [entry for entry in self.heap if not self.waiters[entry[1]].listed]
        listed = [self.waiters[number] for _, number in self.heap if self.waiters[number].listed]
        heapq.heapify(rest)
        self.heap = rest
        return listed

    def _each(self, due: list[Waiter], now: float) -> list[Group]:
        for waiter in due[POLLS_PER_BATCH:]:
            self.push(waiter, now)
        asked = due[:POLLS_PER_BATCH]
        self.rounds.asked_each(sum(waiter.listed for waiter in asked))
        return [Group([waiter]) for waiter in asked]
