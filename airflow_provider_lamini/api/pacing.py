"""A bound on requests per second."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pacer:
    """Spreads requests evenly. May be used from several threads.

    :param per_second: requests at most; ``None`` sets no bound
    :param clock: the time in seconds, from any start
    """

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._interval = 1.0 / per_second if per_second else 0.0
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def seconds_to_wait(self) -> float:
        """Take the next free place and return how many seconds it is away."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._interval
        return place - now
