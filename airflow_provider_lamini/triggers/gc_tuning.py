"""Thousands of triggers in one process, and Python's garbage collector, which goes through all that they are."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = 500
"""So many triggers more are left out of the collector's work at once: 20 ms of it."""


class Crowd:
    """Counts the triggers that wait, and spares the collector those that have come to stay.

    While 10,000 triggers begin to wait, each full collection goes through more of them, and for 0.3 s in the end none
    runs. What is left out is freed as ever when nobody refers to it; only circles that refer to themselves are not
    found any more. That happens each time that 500 more wait than ever before, and not as they come and go.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._most = 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Count one more, as long as the block lasts."""
        self._waiting += 1
        if self._waiting >= self._most + STEP:
            self._most = self._waiting
            gc.freeze()
        try:
            yield
        finally:
            self._waiting -= 1


CROWD = Crowd()
"""All job triggers of this process."""
