"""Measure whether an event loop stays responsive."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def with_gaps(work: Awaitable[T], clock: Callable[[], float] = time.monotonic) -> tuple[T, list[float]]:
    """Await something while another task runs every 10 ms.

    :param work: the awaitable
    :param clock: measures the gaps; `time.process_time` does not see that other processes have the CPU, nor waits for a disk
    :return: its result, and the seconds between the runs of the task
    """
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = clock()
            await asyncio.sleep(0.01)
            gaps.append(clock() - before)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)  # start it before the work can block the loop
    try:
        return await work, gaps
    finally:
        ticking.cancel()


def quietest(
    run: Callable[[], tuple[T, list[float]]], bound: float, rounds: int = 3
) -> tuple[T, list[float]]:
    """Run something until no gap reaches a bound: code that blocks the loop does so each time, a busy machine does not.

    :param run: returns a result of `with_gaps`
    :param bound: seconds
    :param rounds: maximum number of runs
    :return: the result of the run with the shortest maximum gap
    """
    seen: list[tuple[T, list[float]]] = []
    while len(seen) < rounds and not any(_longest(one) < bound for one in seen):
        seen.append(run())
    return min(seen, key=_longest)


def _longest(seen: tuple[object, list[float]]) -> float:
    return max(seen[1], default=math.inf)
