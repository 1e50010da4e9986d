"""Requests in turns, where only those of a kind can be computed together."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


class Turns:
    """Lets in requests of one kind at a time, from any number of threads.

    Once a request of another kind waits, nobody else is let in until those inside have left. Then all requests of the
    kind that came first have their turn: each waits for one turn of each other kind at the most.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kind: Hashable = None
        self._inside = 0
        self._waiting: dict[Hashable, _Turn] = {}

    @contextmanager
    def of(self, kind: Hashable) -> Iterator[None]:
        """Wait for a turn of a kind, and stay inside while the block runs.

        :param kind: what requests must have in common
        """
        with self._changed:
            if not self._inside or (kind == self._kind and not self._waiting):
                self._kind = kind
                self._inside += 1
            else:
                turn = self._waiting.setdefault(kind, _Turn())
                turn.requests += 1
                self._changed.wait_for(lambda: turn.has_come)
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside and self._waiting:
                    self._begin_next()

    def _begin_next(self) -> None:
        self._kind = next(iter(self._waiting))
        turn = self._waiting.pop(self._kind)
        # They count as inside before they wake up, so that no other kind comes between.
        self._inside = turn.requests
        turn.has_come = True
        self._changed.notify_all()


class _Turn:
    """Requests of one kind that wait together."""

    def __init__(self) -> None:
        self.requests = 0
        self.has_come = False
