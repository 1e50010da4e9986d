"""Measures how long an event loop is blocked, how long Python's garbage collector runs, and what an idle loop shows."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = 0.01
"""Seconds that :class:`LagMeter` sleeps between two measurements."""

BLOCKED = 0.1
"""Lag in seconds beyond which Airflow's triggerer warns that its event loop was blocked."""

IDLE_LOOP = """
import asyncio, sys, threading
sys.path.insert(0, sys.argv[1])
from bench.support.lag import LagMeter
async def main():
    meter = LagMeter()
    task = asyncio.create_task(meter.run())
    await asyncio.to_thread(sys.stdin.read)
    task.cancel()
    print(meter.as_json())
asyncio.run(main())
"""


class LagMeter:
    """Measures the lag of an event loop: how much longer than requested a sleep takes.

    Every other trigger in the loop is delayed by as much.
    """

    def __init__(self) -> None:
        self.lags: list[float] = []
        """Seconds."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            started_at = time.perf_counter()
            await asyncio.sleep(SLEEP)
            self.lags.append(max(0.0, time.perf_counter() - started_at - SLEEP))

    def as_json(self) -> str:
        """Return the 99th percentile and the maximum in milliseconds, and how often the loop was blocked."""
        blocked = sum(lag > BLOCKED for lag in self.lags)
        return json.dumps(
            {"p99": percentile(self.lags, 99) * 1e3, "max": max(self.lags) * 1e3, "blocked": blocked}
        )


class GcPauses:
    """Measures how long Python's garbage collector stops the process."""

    def __init__(self) -> None:
        self.seconds: list[float] = [0.0]
        self.started_at = 0.0
        gc.callbacks.append(self.on_collection)

    def on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Record one collection; ``gc`` calls this before and after each."""
        if phase == "start":
            self.started_at = time.perf_counter()
        else:
            self.seconds.append(time.perf_counter() - self.started_at)

    def pop_longest(self) -> float:
        """Return the seconds of the longest collection since the last call."""
        longest, self.seconds = max(self.seconds), [0.0]
        return longest


def percentile(values: list[float], percent: float) -> float:
    """Return the value below which ``percent`` percent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextmanager
def idle_loop(root: str) -> Iterator[dict[str, float]]:
    """Run an idle event loop in another process, for comparison on the same machine at the same time.

    :param root: path of the folder that contains ``bench``
    :return: a dictionary, filled on exit: ``p99`` and ``max`` of the lag in milliseconds, and ``blocked``, how often the
        loop was blocked
    """
    lag: dict[str, float] = {}
    command = [sys.executable, "-c", IDLE_LOOP, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield lag
            out, _ = process.communicate("", timeout=10)
            lag.update(json.loads(out))
        finally:
            process.kill()
