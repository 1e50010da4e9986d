"""How soon a task resumes after its job has ended, and how many polls that takes.

``python bench/waiting_latency.py`` simulates the poll schedule (``jobs.polling``, which uses neither clock nor network)
for jobs of many lengths, and compares it with fixed intervals. Then it runs real triggers against the stub, for real jobs
of a few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from airflow_provider_lamini.jobs.polling import PollAgain, PollPlan, decide_after_status, first_poll
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from bench.stubs.timed_jobs import running_stub
from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm

RUNNING = JobStatus("1", JobState.RUNNING, "RUNNING")
LENGTHS = [(5, 15), (15, 60), (60, 300), (300, 1800), (1800, 4 * 3600)]
"""Ranges of job lengths in seconds."""

FIXED_INTERVAL = 2.0
"""Seconds between polls; with it, the median delay of jobs of 10 s is a tenth of their length."""


def simulate_job(length: float, rng: random.Random) -> tuple[float, int]:
    """Simulate the polls of one job.

    :param length: seconds that the job runs
    :return: seconds from the job's end until a poll detects it, and the number of polls
    """
    plan = PollPlan(submitted_at=0.0, deadline=1e9)
    now, polls = 0.0, 0
    decision = first_poll(plan, now, rng.random())
    while isinstance(decision, PollAgain):
        now, polls = now + decision.seconds, polls + 1
        if now >= length:
            return now - length, polls
        decision = decide_after_status(plan, RUNNING, now, rng.random())
    raise AssertionError(decision)


def fixed_polls(lengths: list[float], interval: float) -> float:
    """Return the polls per job at a fixed interval."""
    return statistics.fmean(length / interval + 1 for length in lengths)


def simulate_ranges(jobs: int, seed: int) -> list[Figures]:
    """Simulate jobs of each range of lengths.

    :param jobs: number of jobs per range
    """
    rng = random.Random(seed)
    tables = []
    for minimum, maximum in LENGTHS:
        lengths = [rng.uniform(minimum, maximum) for _ in range(jobs)]
        results = [simulate_job(length, rng) for length in lengths]
        delay = statistics.median(delay for delay, _ in results)
        polls = statistics.fmean(polls for _, polls in results)
        figures = Figures(f"{jobs:,} jobs of {minimum:,} s to {maximum:,} s, simulated")
        if maximum <= 60:
            figures.check("median delay", delay, "<=", 2.0, "s")
        else:
            figures.note("median delay", delay, "s")
            share = statistics.median(
                delay / length for (delay, _), length in zip(results, lengths, strict=True)
            )
            figures.check("median delay, share of the job's length", share * 100, "<=", 10, "%")
        figures.note("polls per job", polls)
        # The median delay of a fixed interval is half the interval. To choose it, one must know how long jobs take.
        same = 2 * delay
        figures.note(f"polls at a fixed {same:.1f} s, with the same delay", fixed_polls(lengths, same))
        figures.note(f"polls at a fixed {FIXED_INTERVAL:g} s", fixed_polls(lengths, FIXED_INTERVAL))
        tables.append(figures)
    return tables


def simulate_mixed(jobs: int, seed: int) -> Figures:
    """Simulate jobs of all lengths together, where a fixed interval has to suit the short ones."""
    rng = random.Random(seed)
    lengths = [min(max(rng.lognormvariate(5.0, 1.5), 5.0), 4 * 3600) for _ in range(jobs)]
    results = [simulate_job(length, rng) for length in lengths]
    delay = statistics.median(
        delay for (delay, _), length in zip(results, lengths, strict=True) if length <= 60
    )
    polls = statistics.fmean(polls for _, polls in results)
    same = fixed_polls(lengths, 2 * delay)
    figures = Figures(f"{jobs:,} jobs, lognormal around {statistics.median(lengths):.0f} s, simulated")
    figures.check("median delay, jobs under a minute", delay, "<=", 2.0, "s")
    figures.note("polls per job", polls)
    figures.note(f"polls at a fixed {2 * delay:.1f} s, with the same delay for the short ones", same)
    figures.check("polls, share of those", polls / same * 100, "<=", 100, "%")
    return figures


async def measure_job(url: str, length: float) -> float:
    """Submit a job to the stub and wait for it with a trigger.

    :return: seconds from the end of the job to the event
    """
    import httpx

    from airflow_provider_lamini.triggers.job import JobTrigger

    async with httpx.AsyncClient(base_url=url) as http:
        body = {"model_name": "m", "prompt": ["a"]}
        job_id = (await http.post("/v1/batch_completions", json=body)).json()["id"]
    submitted_at = time.time()
    trigger = JobTrigger(
        conn_id="lamini_default",
        kind="lamini/batch_completions",
        job_ids=[job_id],
        submitted_at=submitted_at,
        deadline=submitted_at + 600,
        poll_interval=30,
    )
    async for _ in trigger.run():
        pass
    return time.time() - submitted_at - length


def measure_jobs(jobs: int, length: float) -> Figures:
    """Measure real triggers for real jobs, all at once."""

    async def measure_all(url: str) -> list[float]:
        return await asyncio.gather(*(measure_job(url, length) for _ in range(jobs)))

    with running_stub(seconds=length) as stub:
        os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = stub.connection()
        delays = asyncio.run(measure_all(stub.url))
        polls = stub.control("stats")["requests"]["batch"]
    figures = Figures(f"{jobs} jobs of {length:g} s, real triggers with a stub")
    figures.check("median delay, from the job's end to the event", statistics.median(delays), "<=", 2.0, "s")
    figures.note("maximum delay", max(delays), "s")
    figures.note("polls per job", polls / jobs)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="also real jobs of 50 s; takes a minute longer")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulations")
    options = parser.parse_args()
    tables = [
        *simulate_ranges(2000, options.seed),
        simulate_mixed(5000, options.seed),
        measure_jobs(20, 14.0),  # a trigger yields no earlier than 10 s after its start
    ]
    if options.full:
        tables.append(measure_jobs(20, 50.0))
    for figures in tables:
        figures.print()
    sys.exit(exit_status(tables, check=options.check))


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
