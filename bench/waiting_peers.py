"""What waiting costs, compared with two other providers in one run.

``python bench/waiting_peers.py`` needs an environment that contains these providers and this package: ``make bench-peers``
creates it. Each provider's triggers run in a process of their own, with the same loop around them, against the same stub,
at the same interval.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.figures import Figures, exit_status
from bench.support.waiting_scenario import Measurements, Scenario, run_scenario
from tests.support.processes import unwind_on_sigterm


def cpu_per_poll(scenario: Scenario, measured: Measurements) -> float:
    """Return the CPU milliseconds per job and poll; one list request polls all jobs."""
    lists = measured.requests.get("list of tuning jobs", 0)
    polls = lists * scenario.jobs + sum(measured.requests.values()) - lists
    return measured.cpu / polls * 1e3


def make_figures(scenario: Scenario, measured: Measurements, idle: dict[str, float]) -> Figures:
    requests = sum(measured.requests.values())
    figures = Figures(scenario.title())
    figures.note("CPU per job and poll", cpu_per_poll(scenario, measured), "ms")
    figures.note("requests per job and interval", requests / measured.expected_polls)
    figures.note("event loop lag, p99", measured.lag_p99, "ms")
    figures.note("event loop lag, maximum", measured.lag_max, "ms")
    figures.note("   an idle loop at the same time", idle["max"], "ms")
    figures.note("while all start: CPU per trigger", measured.start_cpu / scenario.jobs * 1e3, "ms")
    figures.note("while all start: event loop lag, maximum", measured.start_lag_max, "ms")
    figures.note("connections per trigger", measured.connections / scenario.jobs)
    figures.note("threads", measured.threads)
    figures.note("memory per trigger", measured.memory / 1e3, "KB")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--full", action="store_true", help="500 triggers of each peer every 30 s; takes six minutes"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument(
        "--python",
        default=str(ROOT / ".venv-peers" / "bin" / "python"),
        help="interpreter of the environment that contains the providers",
    )
    options = parser.parse_args()
    jobs, interval = (500, 30) if options.full else (150, 10)
    if not options.full:
        print("Short form: 150 triggers of each peer every 10 s instead of 500 every 30 s.")
    scenarios = {
        "ours, listed": Scenario("tuning", 10_000, interval=interval, intervals=2, tls=True),
        "ours, one by one": Scenario("batch", 4 * jobs, interval=interval, intervals=2, tls=True),
        "OpenAI": Scenario("openai", jobs, interval=interval, intervals=2, tls=True),
        "common.ai": Scenario("common.ai", jobs, interval=interval, intervals=2, tls=True),
    }
    cpu: dict[str, float] = {}
    tables = []
    for name, scenario in scenarios.items():
        measured, idle = run_scenario(scenario, options.python)
        cpu[name] = cpu_per_poll(scenario, measured)
        tables.append(make_figures(scenario, measured, idle))
        tables[-1].print()
    ratios = Figures("CPU per job and poll: the peer's, divided by ours")
    for peer in ("OpenAI", "common.ai"):
        ratios.check(f"{peer}, ours listed", cpu[peer] / cpu["ours, listed"], ">=", 75)
        ratios.check(f"{peer}, ours polled one by one", cpu[peer] / cpu["ours, one by one"], ">=", 5)
    ratios.print()
    sys.exit(exit_status([*tables, ratios], check=options.check))


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
