"""One scene of waiting: many triggers of one sort in one event loop, as a triggerer runs them.

The other benchmarks of waiting start this in a process of its own, in the environment of the provider that they
measure, and read the JSON line that it prints.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.stubs.running import Stub
from bench.support.loop import LagMeter, percentile

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

AGE = 3600.0
"""Seconds since the jobs were submitted: old enough for the longest interval."""

SORTS = {
    "tuning": "lamini/tuning",
    "batch": "lamini/batch_completions",
    "classifier": "lamini/classifier",
    "rag": "lamini/memory_rag",
}
"""Our sorts, and the names of their kinds of jobs."""


@dataclass
class Seen:
    """What the scene was like; times in seconds, lags in milliseconds."""

    sort: str
    jobs: int
    interval: float
    intervals: float
    cpu: float
    """CPU seconds of the process while nothing happened but waiting."""
    polls: int
    """How often the jobs were due in that time, each once per interval."""
    requests: dict[str, int]
    connections: int
    megabytes: float
    """Answered by the stub in that time."""
    spread: float
    """The fullest second's requests over the mean second's."""
    memory: float
    """Bytes per trigger."""
    threads: int
    gc_max: float
    """The longest garbage collection in that time."""
    lag_p99: float
    lag_max: float
    bare: float
    """CPU seconds of one request with httpx alone, a few every 0.1 s."""
    start_lag_max: float
    start_gc_max: float
    """The longest garbage collection in that time, which is part of the lag."""
    start_cpu: float
    start_requests: int
    end_lag_max: float
    end_gc_max: float
    end_cpu: float
    to_last_event: float
    """Seconds from the end of the jobs on the platform to the last event."""


def make(sort: str, number: int, interval: float) -> BaseTrigger:
    """One trigger of a sort."""
    now = time.time()
    if sort == "openai":
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        return OpenAIBatchTrigger("peer", f"batch{number}", poll_interval=interval, timeout=36000)
    if sort == "common.ai":
        from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

        return LLMBatchTrigger(
            llm_conn_id="peer",
            adapter="openai",
            batch_id=f"batch{number}",
            poll_interval=int(interval),
            end_time=now + 36000,
            cancel_on_kill=True,
            cancel_on_timeout=True,
            timeout=36000,
        )
    from airflow_provider_lamini.triggers.job import JobTrigger

    return JobTrigger(
        conn_id="lamini_default",
        kind=SORTS[sort],
        job_ids=[str(number)],
        submitted_at=now - AGE,
        deadline=now + 36000,
        poll_interval=interval,
    )


async def run_trigger(trigger: BaseTrigger, events: list[TriggerEvent]) -> None:
    """Run a trigger with what Airflow 3.3's triggerer puts around it."""
    import greenback

    await greenback.ensure_portal()
    events.extend([event async for event in trigger.run()])


def memory() -> int:
    """Bytes that this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def scene(sort: str, stub: Stub, *, jobs: int, interval: float, intervals: int, begin: float) -> Seen:
    """Start the triggers over ``begin`` seconds, wait through the intervals, and have all jobs end at once."""
    await warm_up(sort, interval)
    await asyncio.to_thread(stub.control, "reset")
    bare = await bare_request(stub) if sort == "batch" else 0.0
    empty, events = memory(), []
    collections = Collections()
    meter = LagMeter()
    metering = asyncio.create_task(meter.run())
    idle = time.process_time()
    await asyncio.sleep(2)
    idle = (time.process_time() - idle) / 2  # what the meter itself costs in a second
    cpu = time.process_time()
    tasks = []
    for number in range(jobs):
        tasks.append(asyncio.create_task(run_trigger(make(sort, number, interval), events)))
        await asyncio.sleep(begin / jobs if number % 50 == 0 else 0)
    await asyncio.sleep(interval * 1.3)
    start_lags, start_cpu, start_gc = meter.lags[:], time.process_time() - cpu, collections.longest()
    full = memory()
    started = await asyncio.to_thread(stub.control, "reset")
    meter.lags.clear()
    collections.longest()
    cpu, began = time.process_time(), time.time()
    await asyncio.sleep(interval * intervals)
    lags, lasted, threads = meter.lags[:], time.time() - began, threading.active_count()
    cpu = time.process_time() - cpu - idle * lasted
    collected = collections.longest()
    seen = await asyncio.to_thread(stub.control, "stats")
    meter.lags.clear()
    end_cpu = time.process_time()
    collections.longest()
    ended_at = (await asyncio.to_thread(stub.control, "end"))["ended_at"]
    await asyncio.gather(*tasks)
    to_last_event, end_cpu = time.time() - ended_at, time.process_time() - end_cpu
    await asyncio.sleep(0.1)
    metering.cancel()
    assert len(events) == jobs
    return Seen(
        sort=sort,
        jobs=jobs,
        interval=interval,
        intervals=lasted / interval,
        cpu=cpu,
        polls=round(jobs * lasted / interval),
        requests=seen["requests"],
        connections=max(seen["connections"], started["connections"]),
        megabytes=seen["bytes"] / 1e6,
        spread=unevenness(seen["times"], began, lasted),
        memory=(full - empty) / jobs,
        threads=threads,
        gc_max=collected * 1e3,
        lag_p99=percentile(lags, 99) * 1e3,
        lag_max=max(lags) * 1e3,
        bare=bare,
        start_lag_max=max(start_lags) * 1e3,
        start_gc_max=start_gc * 1e3,
        start_cpu=start_cpu,
        start_requests=sum(started["requests"].values()),
        end_lag_max=max(meter.lags) * 1e3,
        end_gc_max=collections.longest() * 1e3,
        end_cpu=end_cpu,
        to_last_event=to_last_event,
    )


class Collections:
    """How long Python's garbage collector stops everything."""

    def __init__(self) -> None:
        self.seconds: list[float] = [0.0]
        self.began = 0.0
        gc.callbacks.append(self.note)

    def note(self, phase: str, _: dict[str, int]) -> None:
        """Is called before and after each collection."""
        if phase == "start":
            self.began = time.perf_counter()
        else:
            self.seconds.append(time.perf_counter() - self.began)

    def longest(self) -> float:
        """Seconds of the longest collection since the last call."""
        longest, self.seconds = max(self.seconds), [0.0]
        return longest


async def bare_request(stub: Stub) -> float:
    """CPU seconds of one request with httpx and nothing around it, seven in a row every 0.1 s."""
    import httpx

    async with httpx.AsyncClient() as client:
        await client.get(f"{stub.url}/v1/batch_completions/bare/result")
        cpu = time.process_time()
        for _ in range(20):
            for _ in range(7):
                await client.get(f"{stub.url}/v1/batch_completions/bare/result")
            await asyncio.sleep(0.1)
        return (time.process_time() - cpu) / 140


async def warm_up(sort: str, interval: float) -> None:
    """Run a trigger for a moment: what is imported and looked up once is not the triggers'."""
    for seconds in (6, 1):
        task = asyncio.create_task(run_trigger(make(sort, 0, interval), []))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def unevenness(times: list[float], began: float, lasted: float) -> float:
    """The fullest second's requests over the mean second's."""
    seconds = [0] * max(1, int(lasted))
    for moment in times:
        if 0 <= moment - began < len(seconds):
            seconds[int(moment - began)] += 1
    mean = sum(seconds) / len(seconds)
    return max(seconds) / mean if mean else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sort", choices=[*SORTS, "openai", "common.ai"])
    parser.add_argument("--url", required=True, help="where the stub is")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True)
    parser.add_argument("--intervals", type=int, required=True)
    parser.add_argument("--begin", type=float, default=5.0, help="seconds over which the triggers start")
    parser.add_argument("--profile", help="write a profile of the whole scene to this file")
    given = parser.parse_args()
    stub = Stub(given.url, os.environ.get("SSL_CERT_FILE"))
    os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = stub.connection()
    os.environ["AIRFLOW_CONN_PEER"] = json.dumps(
        {"conn_type": "openai", "host": f"{stub.url}/v1", "password": "no-secret"}
    )
    run = scene(
        given.sort,
        stub,
        jobs=given.jobs,
        interval=given.interval,
        intervals=given.intervals,
        begin=given.begin,
    )
    if given.profile:
        import cProfile

        with cProfile.Profile() as profile:
            seen = asyncio.run(run)
        profile.dump_stats(given.profile)
    else:
        seen = asyncio.run(run)
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main()
