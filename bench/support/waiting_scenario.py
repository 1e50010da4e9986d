"""A scenario of waiting: many triggers of one kind in one event loop, as in Airflow's triggerer.

:func:`run_scenario` runs this file in a process of its own, in the environment of the provider that is measured, against a
stub in another process. The file prints its measurements as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.stubs.timed_jobs import Stub, running_stub
from bench.support.lag import GcPauses, LagMeter, idle_loop, percentile

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

JOB_AGE = 3600.0
"""Seconds since the jobs were submitted; jobs this old are polled at the longest interval."""

TIMEOUT = 36000
"""Seconds until the triggers give up; no scenario takes as long."""

JOB_KINDS = {
    "tuning": "lamini/tuning",
    "batch": "lamini/batch_completions",
    "classifier": "lamini/classifier",
    "rag": "lamini/memory_rag",
    "training": "emissary/training",
}
"""This provider's job kinds, by their short names."""

PROJECTS = 20
"""Projects of the training jobs. Each has a list of its own."""

TITLES = {
    "tuning": "tuning jobs",
    "batch": "batches",
    "classifier": "classifiers",
    "rag": "indexes",
    "training": "training jobs in 20 projects",
    "openai": "batches with OpenAIBatchTrigger",
    "common.ai": "batches with LLMBatchTrigger",
}


@dataclass(frozen=True)
class Scenario:
    """What to measure.

    :param kind: a key of ``TITLES``
    :param jobs: number of jobs; each has its own trigger
    :param interval: poll interval in seconds
    :param intervals: number of intervals to measure
    :param old_jobs: number of jobs in the platform's list that ended long ago
    :param start_seconds: seconds over which the triggers start
    :param tls: whether the platform uses TLS
    """

    kind: str
    jobs: int
    interval: float
    intervals: int
    old_jobs: int = 0
    start_seconds: float = 5.0
    tls: bool = False

    def title(self) -> str:
        """Describe the scenario for a table."""
        old = f" and {self.old_jobs:,} old ones" if self.old_jobs else ""
        return f"{self.jobs:,} {TITLES[self.kind]}{old}, every {self.interval:g} s"


@dataclass(frozen=True)
class Measurements:
    """What one scenario cost. Lags and garbage collections are in milliseconds.

    Without a prefix, a figure is about the measured intervals, in which all triggers wait. The prefix ``start`` is about
    the time in which they start, ``end`` about the time after all jobs ended.
    """

    intervals: float
    """Number of measured intervals."""
    expected_polls: int
    """Number of jobs times intervals."""
    cpu: float
    """CPU seconds of the process, without the lag meter's."""
    requests: dict[str, int]
    """Number of requests by type."""
    connections: int
    megabytes: float
    """Size of the stub's responses."""
    busiest_second: float
    """Requests in the busiest second, relative to the mean."""
    memory: float
    """Bytes per trigger."""
    threads: int
    gc_max: float
    lag_p99: float
    lag_max: float
    bare_request: float
    """CPU seconds of one request with httpx alone, sent in small groups every 0.1 s."""
    start_lag_max: float
    start_gc_max: float
    start_cpu: float
    start_requests: int
    end_lag_max: float
    end_gc_max: float
    end_cpu: float
    last_event_delay: float
    """Seconds from the end of the jobs to the last event."""


def run_scenario(scenario: Scenario, python: str) -> tuple[Measurements, dict[str, float]]:
    """Run a scenario in a process of its own.

    :param python: the interpreter of the environment that contains the provider
    :return: the measurements, and the lag of an idle loop at the same time as in :func:`idle_loop`
    """
    with (
        tempfile.TemporaryDirectory() as home,
        running_stub(tls=scenario.tls) as stub,
        idle_loop(str(ROOT)) as idle,
    ):
        stub.control("jobs", running=scenario.jobs, old=scenario.old_jobs)
        command = [
            *(python, __file__, scenario.kind, "--url", stub.url),
            *("--jobs", str(scenario.jobs), "--interval", str(scenario.interval)),
            *("--intervals", str(scenario.intervals), "--start-seconds", str(scenario.start_seconds)),
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__FREEZE_GC": "True",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": "0",
        }
        if stub.ca_file:
            environment["SSL_CERT_FILE"] = stub.ca_file  # httpx trusts it, under every provider
        # The log goes to a file, as a triggerer's does.
        with (Path(home) / "log").open("w") as log:
            process = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                timeout=900,
                check=False,
            )
        if process.returncode:
            raise SystemExit((Path(home) / "log").read_text()[-4000:])
    return Measurements(**json.loads(process.stdout.splitlines()[-1])), idle


def make_trigger(kind: str, number: int, interval: float) -> BaseTrigger:
    """Make the trigger for one job."""
    now = time.time()
    if kind == "openai":
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        return OpenAIBatchTrigger("peer", f"batch{number}", poll_interval=interval, timeout=TIMEOUT)
    if kind == "common.ai":
        from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

        return LLMBatchTrigger(
            llm_conn_id="peer",
            adapter="openai",
            batch_id=f"batch{number}",
            poll_interval=int(interval),
            end_time=now + TIMEOUT,
            cancel_on_kill=True,
            cancel_on_timeout=True,
            timeout=TIMEOUT,
        )
    from airflow_provider_lamini.triggers.job import JobTrigger

    name = JOB_KINDS[kind]
    return JobTrigger(
        conn_id=f"{name.partition('/')[0]}_default",
        kind=name,
        job_ids=[f"ms-{number % PROJECTS}/{number}" if kind == "training" else str(number)],
        submitted_at=now - JOB_AGE,
        deadline=now + TIMEOUT,
        poll_interval=interval,
    )


async def run_trigger(trigger: BaseTrigger, events: list[TriggerEvent]) -> None:
    """Run a trigger with the same wrapping as in Airflow 3.3's triggerer."""
    import greenback

    await greenback.ensure_portal()
    events.extend([event async for event in trigger.run()])


async def measure(scenario: Scenario, stub: Stub) -> Measurements:
    """Start the triggers, let them wait through the intervals, and end all jobs at once."""
    await warm_up(scenario)
    await asyncio.to_thread(stub.control, "reset")
    bare = await bare_request(stub) if scenario.kind == "batch" else 0.0
    memory_before = resident_memory()
    events: list[TriggerEvent] = []
    probe = Probe()
    await probe.start_with_idle()
    tasks = await start_triggers(scenario, events)
    await asyncio.sleep(scenario.interval * 1.3)
    start = probe.stop()
    memory = resident_memory() - memory_before
    start_counters = await asyncio.to_thread(stub.control, "reset")
    probe.start()
    await asyncio.sleep(scenario.interval * scenario.intervals)
    waiting, threads = probe.stop(), threading.active_count()
    counters = await asyncio.to_thread(stub.control, "stats")
    probe.start()
    ended_at = (await asyncio.to_thread(stub.control, "end"))["ended_at"]
    await asyncio.gather(*tasks)
    last_event_delay = time.time() - ended_at
    await asyncio.sleep(0.1)  # lets the meter see the last lag
    end = probe.stop()
    probe.close()
    assert len(events) == scenario.jobs
    return Measurements(
        intervals=waiting.seconds / scenario.interval,
        expected_polls=round(scenario.jobs * waiting.seconds / scenario.interval),
        cpu=waiting.cpu - probe.idle_cpu * waiting.seconds,
        requests=counters["requests"],
        connections=max(counters["connections"], start_counters["connections"]),
        megabytes=counters["bytes"] / 1e6,
        busiest_second=busiest_second(counters["request_times"], waiting),
        memory=memory / scenario.jobs,
        threads=threads,
        gc_max=waiting.gc_max * 1e3,
        lag_p99=percentile(waiting.lags, 99) * 1e3,
        lag_max=max(waiting.lags) * 1e3,
        bare_request=bare,
        start_lag_max=max(start.lags) * 1e3,
        start_gc_max=start.gc_max * 1e3,
        start_cpu=start.cpu,
        start_requests=sum(start_counters["requests"].values()),
        end_lag_max=max(end.lags) * 1e3,
        end_gc_max=end.gc_max * 1e3,
        end_cpu=end.cpu,
        last_event_delay=last_event_delay,
    )


async def warm_up(scenario: Scenario) -> None:
    """Run a trigger briefly, so that imports and other one-time work are not attributed to the triggers."""
    for seconds in (6, 1):
        task = asyncio.create_task(run_trigger(make_trigger(scenario.kind, 0, scenario.interval), []))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def start_triggers(scenario: Scenario, events: list[TriggerEvent]) -> list[asyncio.Task[None]]:
    """Start one trigger per job, spread over ``start_seconds`` in groups of 50."""
    tasks = []
    for number in range(scenario.jobs):
        trigger = make_trigger(scenario.kind, number, scenario.interval)
        tasks.append(asyncio.create_task(run_trigger(trigger, events)))
        await asyncio.sleep(scenario.start_seconds / scenario.jobs if number % 50 == 0 else 0)
    return tasks


async def bare_request(stub: Stub) -> float:
    """Return the CPU seconds of one request with plain httpx, sent seven at a time every 0.1 s."""
    import httpx

    url = f"{stub.url}/v1/batch_completions/bare/result"
    async with httpx.AsyncClient() as client:
        await client.get(url)
        cpu = time.process_time()
        for _ in range(20):
            for _ in range(7):
                await client.get(url)
            await asyncio.sleep(0.1)
        return (time.process_time() - cpu) / 140


@dataclass(frozen=True)
class Phase:
    """Measurements of one phase of a scenario.

    :param started_at: a Unix timestamp
    :param seconds: how long it took
    :param cpu: CPU seconds of this process
    :param lags: event loop lags in seconds
    :param gc_max: seconds of the longest garbage collection
    """

    started_at: float
    seconds: float
    cpu: float
    lags: list[float]
    gc_max: float


class Probe:
    """Measures one phase after another."""

    def __init__(self) -> None:
        self.gc_pauses = GcPauses()
        self.meter = LagMeter()
        self.metering = asyncio.create_task(self.meter.run())
        self.idle_cpu = 0.0
        """CPU seconds per second of the lag meter."""
        self.start()

    def start(self) -> None:
        """Begin a phase."""
        self.meter.lags.clear()
        self.gc_pauses.pop_longest()
        self.cpu, self.started_at = time.process_time(), time.time()

    async def start_with_idle(self) -> None:
        """Begin a phase with two idle seconds, and use these to measure the lag meter's own CPU."""
        self.start()
        await asyncio.sleep(2)
        cpu = time.process_time()
        self.idle_cpu, self.cpu = (cpu - self.cpu) / 2, cpu

    def stop(self) -> Phase:
        """End a phase."""
        return Phase(
            started_at=self.started_at,
            seconds=time.time() - self.started_at,
            cpu=time.process_time() - self.cpu,
            lags=self.meter.lags[:],
            gc_max=self.gc_pauses.pop_longest(),
        )

    def close(self) -> None:
        """Stop measuring."""
        self.metering.cancel()


def resident_memory() -> int:
    """Return the bytes that this process has in memory, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def busiest_second(request_times: list[float], phase: Phase) -> float:
    """Return the number of requests in the busiest second, relative to the mean."""
    counts = [0] * max(1, int(phase.seconds))
    for request_time in request_times:
        if 0 <= request_time - phase.started_at < len(counts):
            counts[int(request_time - phase.started_at)] += 1
    mean = sum(counts) / len(counts)
    return max(counts) / mean if mean else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=list(TITLES))
    parser.add_argument("--url", required=True, help="the stub's address")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True, help="poll interval in seconds")
    parser.add_argument("--intervals", type=int, required=True, help="number of intervals to measure")
    parser.add_argument(
        "--start-seconds", type=float, default=5.0, help="seconds over which the triggers start"
    )
    parser.add_argument("--profile", help="write a profile of the whole scenario to this file")
    options = parser.parse_args()
    stub = Stub(options.url, os.environ.get("SSL_CERT_FILE"))
    os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = stub.connection()
    os.environ["AIRFLOW_CONN_EMISSARY_DEFAULT"] = stub.connection("emissary")
    os.environ["AIRFLOW_CONN_PEER"] = json.dumps(
        {"conn_type": "openai", "host": f"{stub.url}/v1", "password": "no-secret"}
    )
    scenario = Scenario(
        kind=options.kind,
        jobs=options.jobs,
        interval=options.interval,
        intervals=options.intervals,
        start_seconds=options.start_seconds,
    )
    if options.profile:
        import cProfile

        with cProfile.Profile() as profile:
            measurements = asyncio.run(measure(scenario, stub))
        profile.dump_stats(options.profile)
    else:
        measurements = asyncio.run(measure(scenario, stub))
    print(json.dumps(asdict(measurements)))


if __name__ == "__main__":
    main()
