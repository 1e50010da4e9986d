"""What it costs a triggerer when thousands of tasks wait for jobs.

``python bench/waiting.py`` runs four scenarios, each in a process of its own against a stub of the platform in another
process: 10,000 tuning jobs, which the platform can list; the same with 100,000 old jobs in the list; 10,000 training jobs,
which the platform lists per project; and batches, which have to be polled one by one. ``--full`` uses the poll
interval and the numbers that the bounds are for. The short form uses shorter intervals, and fewer batches, so that it sends
as many requests per second.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.figures import Figures, exit_status
from bench.support.waiting_scenario import PROJECTS, Measurements, Scenario, run_scenario
from tests.support.processes import unwind_on_sigterm


def measure_listed(scenario: Scenario) -> Figures:
    """Measure jobs that the platform can list."""
    measured, idle = run_scenario(scenario, sys.executable)
    figures = Figures(scenario.title())
    requests = sum(measured.requests.values()) / measured.intervals
    figures.check("requests per interval, for all", requests, "<=", 5)
    lists, single_polls = measured.requests["list of tuning jobs"], measured.requests.get("tuning job", 0)
    polls = scenario.jobs * lists + single_polls
    figures.check("CPU per job and poll", measured.cpu / polls * 1e3, "<=", 0.05, "ms")
    add_common(figures, scenario, measured, idle, max_connections=4)
    figures.note("size of the responses per interval", measured.megabytes / measured.intervals, "MB")
    return figures


def measure_projects(scenario: Scenario) -> Figures:
    """Measure jobs that the platform lists per project."""
    measured, idle = run_scenario(scenario, sys.executable)
    figures = Figures(scenario.title())
    lists, single_polls = (
        measured.requests["list of training jobs"],
        measured.requests.get("training job", 0),
    )
    figures.check("list requests per project and interval", lists / PROJECTS / measured.intervals, "<=", 1.1)
    figures.check("polls of single jobs", single_polls, "<=", 0)
    polls = scenario.jobs // PROJECTS * lists + single_polls
    figures.check("CPU per job and poll", measured.cpu / polls * 1e3, "<=", 0.05, "ms")
    add_common(figures, scenario, measured, idle, max_connections=20)
    return figures


def measure_individual(scenario: Scenario) -> Figures:
    """Measure jobs that have to be polled one by one."""
    measured, idle = run_scenario(scenario, sys.executable)
    figures = Figures(scenario.title())
    polls = sum(measured.requests.values())
    figures.note("polls per second", polls / (measured.intervals * scenario.interval))
    figures.check("CPU per job and poll", measured.cpu / polls * 1e3, "<=", 1.0, "ms")
    figures.note("   a bare httpx request at the same rate", measured.bare_request * 1e3, "ms")
    add_common(figures, scenario, measured, idle, max_connections=32)
    figures.check("requests in the busiest second, relative to the mean", measured.busiest_second, "<=", 2.0)
    return figures


def add_common(
    figures: Figures,
    scenario: Scenario,
    measured: Measurements,
    idle: dict[str, float],
    *,
    max_connections: int,
) -> None:
    """Add the figures that both kinds of scenarios have."""
    figures.note("event loop lag, p99", measured.lag_p99, "ms")
    figures.note("   an idle loop at the same time", idle["p99"], "ms")
    figures.check("   difference", max(0.0, measured.lag_p99 - idle["p99"]), "<=", 20, "ms")
    figures.note("event loop lag, maximum", measured.lag_max, "ms")
    figures.note("   longest garbage collection", measured.gc_max, "ms")
    figures.note("   an idle loop at the same time", idle["max"], "ms")
    figures.check("   difference", max(0.0, measured.lag_max - idle["max"]), "<=", 100, "ms")
    figures.check("connections", measured.connections, "<=", max_connections)
    figures.check("memory per trigger", measured.memory / 1e3, "<=", 60, "KB")
    figures.note("while all start: CPU per trigger", measured.start_cpu / scenario.jobs * 1e3, "ms")
    figures.note("while all start: requests, including polls", measured.start_requests)
    max_lag = 100 + idle["max"]
    figures.check("while all start: event loop lag, maximum", measured.start_lag_max, "<=", max_lag, "ms")
    figures.note("   longest garbage collection", measured.start_gc_max, "ms")
    figures.check("while all end at once: event loop lag, maximum", measured.end_lag_max, "<=", max_lag, "ms")
    figures.note("   longest garbage collection", measured.end_gc_max, "ms")
    figures.note("from the end of the jobs to the last event", measured.last_event_delay, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--full", action="store_true", help="intervals of 30 s, 2,000 batches; takes nine minutes"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument(
        "--scenario", choices=["listed", "old", "projects", "individual"], help="run only this scenario"
    )
    options = parser.parse_args()
    if options.full:
        interval, old_interval, batches = 30, 30, Scenario("batch", 2000, interval=30, intervals=3)
    else:
        print("Short form: intervals of 8 s and 15 s instead of 30 s, and 530 batches instead of 2,000.")
        interval, old_interval, batches = 8, 15, Scenario("batch", 530, interval=8, intervals=2)
    old = Scenario("tuning", 10_000, old_jobs=100_000, interval=old_interval, intervals=2)
    scenarios = {
        "listed": (measure_listed, Scenario("tuning", 10_000, interval=interval, intervals=2)),
        "old": (measure_listed, old),
        "projects": (measure_projects, Scenario("training", 10_000, interval=old_interval, intervals=4)),
        "individual": (measure_individual, batches),
    }
    tables = []
    for name, (measure, scenario) in scenarios.items():
        if options.scenario in (None, name):
            tables.append(measure(scenario))
            tables[-1].print()
    sys.exit(exit_status(tables, check=options.check))


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
