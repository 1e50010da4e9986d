"""How the jobs that are due are asked about: one by one, or all at once with the platform's list. Pure.

A list answers for any number of jobs with one request, but it also holds every job of the past, and grows. Like
one who hires until the rent would have bought the thing, the watch asks one by one until that would have cost as
much as a list.
"""

from __future__ import annotations

from dataclasses import dataclass
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


class Way(Enum):
    """How to ask."""

    EACH = "each"
    LIST = "list"
    LATER = "later"
    """With a list, which is not to be asked for yet."""


@dataclass(slots=True)
class Rounds:
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

    def way(self, due: int, waiting: int, now: float) -> Way:
        """Decide how to ask.

        :param due: jobs that are due now
        :param waiting: all jobs that wait, those included
        :param now: seconds, from any start
        """
        if not self.usable(now):
            return Way.EACH
        pays = due >= self.worth or (waiting >= self.worth and self._each + due >= self.worth)
        if not pays and not self.wanted:
            return Way.EACH
        self.wanted = self.under_way or now < self.not_before
        return Way.LATER if self.wanted else Way.LIST

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
