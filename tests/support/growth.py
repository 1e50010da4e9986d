"""Measuring how the CPU time of a function grows with its input, beside other processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINEAR = 2.5
"""Twice the input may take so many times as long."""


def growth_of(half: Callable[[], object], whole: Callable[[], object]) -> float:
    """How many times as long a function takes for twice the input, measured again where that is too much.

    :param half: calls it with one half of an input
    :param whole: calls it with all of it
    """
    ratio = 0.0
    for _ in range(5):
        least = min(_seconds(half) for _ in range(2))
        ratio = (min(_seconds(whole) for _ in range(2)) - 0.001) / max(least, 0.0005)
        if ratio <= LINEAR:
            break
    return ratio


def _seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started
