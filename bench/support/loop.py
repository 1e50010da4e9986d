"""How late an event loop is, beside an idle loop of another process on the same machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = 0.01
"""Seconds between two looks at the clock."""

BLOCKED = 0.1
"""Seconds: where its event loop is later than this, Airflow's triggerer warns that something has blocked it."""

IDLE = """
import asyncio, sys, threading
sys.path.insert(0, sys.argv[1])
from bench.support.loop import LagMeter
async def main():
    meter = LagMeter()
    task = asyncio.create_task(meter.run())
    await asyncio.to_thread(sys.stdin.read)
    task.cancel()
    print(meter.as_json())
asyncio.run(main())
"""


class LagMeter:
    """Measures how much later than asked for a sleep of 10 ms ends: what every other trigger would feel."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        """Seconds."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.lags.append(max(0.0, time.perf_counter() - before - TICK))

    def as_json(self) -> str:
        """The figures that matter: the 99th percentile and the maximum in milliseconds, and how often it was blocked."""
        blocked = sum(lag > BLOCKED for lag in self.lags)
        return json.dumps(
            {"p99": percentile(self.lags, 99) * 1e3, "max": max(self.lags) * 1e3, "blocked": blocked}
        )


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` percent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


@contextmanager
def idle_loop(root: str) -> Iterator[dict[str, float]]:
    """An idle loop in another process, meanwhile.

    :param root: the folder above ``bench``
    :returns: filled at the end with ``p99`` and ``max`` of its lag, in milliseconds, and how often it was ``blocked``
    """
    lag: dict[str, float] = {}
    command = [sys.executable, "-c", IDLE, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield lag
            out, _ = process.communicate("", timeout=10)
            lag.update(json.loads(out))
        finally:
            process.kill()
