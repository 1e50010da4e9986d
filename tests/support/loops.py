"""Tells whether an event loop is free while something is awaited on it."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def with_gaps(work: Awaitable[T]) -> tuple[T, list[float]]:
    """Await something beside a task that wants to run every 10 ms.

    :param work: what is awaited
    :returns: what it came to, and the seconds between two runs of the task
    """
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)  # it has begun before the work may hold the loop up
    try:
        return await work, gaps
    finally:
        ticking.cancel()


def quietest(run: Callable[[], tuple[T, list[float]]], rounds: int = 3) -> tuple[T, list[float]]:
    """Run something several times: code that holds the loop up does so each time, a busy machine does not.

    :param run: gives what :func:`with_gaps` gives
    :param rounds: how many times
    :returns: what the run gave whose longest gap was the shortest
    """
    return min((run() for _ in range(rounds)), key=lambda seen: max(seen[1], default=math.inf))
