"""How soon a task is woken after its job has ended, and how many requests that takes.

``python bench/waiting_latency.py`` plays the plan of looks (``jobs.polling``, which decides without clock or network)
over jobs of many lengths, and compares it with looking at a fixed interval that is as late at the median. Then it
waits for real jobs of a few seconds with real triggers against the stub.
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
from bench.stubs.running import running_stub
from bench.support.bounds import Figures, exit_code

RUNNING = JobStatus("1", JobState.RUNNING, "RUNNING")
LENGTHS = [(5, 15), (15, 60), (60, 300), (300, 1800), (1800, 4 * 3600)]
"""Seconds."""

AT_MOST = 2.0
"""A fixed interval (seconds) with which jobs of 10 s are late by a tenth of their length at the median."""


def watched(length: float, chance: random.Random) -> tuple[float, int]:
    """How late the end of a job of this length is seen, and after how many looks."""
    plan = PollPlan(submitted_at=0.0, deadline=1e9)
    now, looks = 0.0, 0
    decision = first_poll(plan, now, chance.random())
    while isinstance(decision, PollAgain):
        now, looks = now + decision.seconds, looks + 1
        if now >= length:
            return now - length, looks
        decision = decide_after_status(plan, RUNNING, now, chance.random())
    raise AssertionError(decision)


def worst(lengths: list[float]) -> float:
    """Looks per job at the one fixed interval that suits jobs of unknown length."""
    return statistics.fmean(length / AT_MOST + 1 for length in lengths)


def simulated(jobs: int, seed: int) -> list[Figures]:
    """Jobs of many lengths, without waiting."""
    chance = random.Random(seed)
    found = []
    for least, most in LENGTHS:
        lengths = [chance.uniform(least, most) for _ in range(jobs)]
        seen = [watched(length, chance) for length in lengths]
        late = statistics.median(seconds for seconds, _ in seen)
        looks = statistics.fmean(count for _, count in seen)
        # At the median a fixed interval is half of itself late. Whoever chooses it has to know how long jobs take.
        fixed = statistics.fmean(length / (2 * late) + 1 for length in lengths)
        figures = Figures(f"{jobs:,} jobs of {least:,} s to {most:,} s, simulated")
        if most <= 60:
            figures.bound("late at the median", late, "<=", 2.0, "s")
        else:
            figures.note("late at the median", late, "s")
            share = statistics.median(each / length for (each, _), length in zip(seen, lengths, strict=True))
            figures.bound("late at the median, share of the job's length", share * 100, "<=", 10, "%")
        figures.note("looks per job", looks)
        figures.note(f"looks per job at a fixed {2 * late:.1f} s, which is as late", fixed)
        figures.note(f"looks per job at a fixed {AT_MOST:g} s, as late as is allowed for any", worst(lengths))
        found.append(figures)
    return found


def mixed(jobs: int, seed: int) -> Figures:
    """All lengths together: the fixed interval has to suit the short ones."""
    chance = random.Random(seed)
    lengths = [min(max(chance.lognormvariate(5.0, 1.5), 5.0), 4 * 3600) for _ in range(jobs)]
    seen = [watched(length, chance) for length in lengths]
    short = [late for (late, _), length in zip(seen, lengths, strict=True) if length <= 60]
    fixed = 2 * statistics.median(short)
    looks, at_fixed = sum(count for _, count in seen), sum(length / fixed + 1 for length in lengths)
    figures = Figures(f"{jobs:,} jobs, lognormal around {statistics.median(lengths):.0f} s, simulated")
    figures.bound("late at the median, jobs under a minute", statistics.median(short), "<=", 2.0, "s")
    figures.note("looks per job", looks / jobs)
    figures.note(f"looks per job at a fixed {fixed:.1f} s, as late for the short ones", at_fixed / jobs)
    figures.bound("share of those", looks / at_fixed * 100, "<=", 100, "%")
    return figures


async def one(url_of_stub: str, length: float) -> float:
    """Seconds from the end of a real job to its trigger's event."""
    import httpx

    from airflow_provider_lamini.triggers.job import JobTrigger

    async with httpx.AsyncClient(base_url=url_of_stub) as http:
        body = {"model_name": "m", "prompt": ["a"]}
        job_id = (await http.post("/v1/batch_completions", json=body)).json()["id"]
    submitted = time.time()
    trigger = JobTrigger(
        conn_id="lamini_default",
        kind="lamini/batch_completions",
        job_ids=[job_id],
        submitted_at=submitted,
        deadline=submitted + 600,
        poll_interval=30,
    )
    async for _ in trigger.run():
        pass
    return time.time() - submitted - length


def real(jobs: int, length: float) -> Figures:
    """Real triggers for real jobs, all at once."""

    async def all_of_them(url: str) -> list[float]:
        return await asyncio.gather(*(one(url, length) for _ in range(jobs)))

    with running_stub(seconds=length) as stub:
        os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = stub.connection()
        late = asyncio.run(all_of_them(stub.url))
        looks = stub.control("stats")["requests"]["batch"]
    figures = Figures(f"{jobs} jobs of {length:g} s, real triggers against a stub")
    figures.bound("from the job's end to the event, median", statistics.median(late), "<=", 2.0, "s")
    figures.note("from the job's end to the event, at most", max(late), "s")
    figures.note("looks per job", looks / jobs)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also real jobs of 50 s; a minute more")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound is missed")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = [*simulated(2000, given.seed), mixed(5000, given.seed), real(20, 8.0)]
    if given.full:
        found.append(real(20, 50.0))
    for figures in found:
        figures.show()
    sys.exit(exit_code(found, check=given.check))


if __name__ == "__main__":
    main()
