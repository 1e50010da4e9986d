"""Tells whether an event loop is free while something is awaited on it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

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
    try:
        return await work, gaps
    finally:
        ticking.cancel()
