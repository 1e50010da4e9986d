"""A fair lock that requests of one group share and that excludes all other groups (group mutual exclusion)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


class GroupLock:
    """A lock that any number of threads of the same group hold together.

    Once a thread of another group waits, no new thread gets in until the current holders have left. Then the group
    that has waited longest gets the lock, with all its waiting threads at once. So a thread waits for at most one turn
    of each other group.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._group: Hashable = None
        self._holders = 0
        self._waiting: dict[Hashable, _WaitingGroup] = {}

    @contextmanager
    def hold(self, group: Hashable) -> Iterator[None]:
        """Acquire the lock for a group, and hold it while the block runs.

        :param group: threads with an equal group hold the lock together
        """
        with self._changed:
            if not self._holders or (group == self._group and not self._waiting):
                self._group = group
                self._holders += 1
            else:
                waiting = self._waiting.setdefault(group, _WaitingGroup())
                waiting.threads += 1
                self._changed.wait_for(lambda: waiting.admitted)
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                if not self._holders and self._waiting:
                    self._admit_next()

    def _admit_next(self) -> None:
        self._group = next(iter(self._waiting))
        waiting = self._waiting.pop(self._group)
        # Counted as holders before they wake up, so that no other group gets in between.
        self._holders = waiting.threads
        waiting.admitted = True
        self._changed.notify_all()


class _WaitingGroup:
    """The waiting threads of one group."""

    def __init__(self) -> None:
        self.threads = 0
        self.admitted = False
