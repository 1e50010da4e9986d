"""What waiting costs beside two other providers, in one run.

``python bench/waiting_peers.py`` needs an environment that holds them and this package: ``make bench-peers`` makes it.
Each provider's triggers run in a process of their own, with the same loop around them, against the same stub, at the
same interval.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.bounds import Figures, exit_code
from bench.support.scenes import Scene, play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="500 triggers of each peer every 30 s; six minutes"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound is missed")
    parser.add_argument("--python", default=str(ROOT / ".venv-peers" / "bin" / "python"))
    given = parser.parse_args()
    jobs, interval = (500, 30) if given.full else (150, 10)
    if not given.full:
        print("Short form: 150 triggers of each peer every 10 s in place of 500 every 30 s.")
    scenes = {
        "ours, listed": Scene("tuning", 10_000, interval=interval, intervals=2, tls=True),
        "ours, one by one": Scene("batch", 4 * jobs, interval=interval, intervals=2, tls=True),
        "OpenAI": Scene("openai", jobs, interval=interval, intervals=2, tls=True),
        "common.ai": Scene("common.ai", jobs, interval=interval, intervals=2, tls=True),
    }
    cpu: dict[str, float] = {}
    found = []
    for name, scene in scenes.items():
        seen, idle = play(scene, given.python)
        lists = seen["requests"].get("list of tuning jobs", 0)  # each of them answers for all jobs
        polls = lists * scene.jobs + sum(seen["requests"].values()) - lists
        cpu[name] = seen["cpu"] / polls * 1e3
        figures = Figures(scene.title())
        figures.note("CPU per job and poll", cpu[name], "ms")
        figures.note("requests per job and interval", sum(seen["requests"].values()) / seen["polls"])
        figures.note("event loop late, p99", seen["lag_p99"], "ms")
        figures.note("event loop late, at most", seen["lag_max"], "ms")
        figures.note("   an idle loop meanwhile: at most", idle["max"], "ms")
        figures.note("while all start: CPU per trigger", seen["start_cpu"] / seen["jobs"] * 1e3, "ms")
        figures.note("while all start: event loop late, at most", seen["start_lag_max"], "ms")
        figures.note("connections per trigger", seen["connections"] / seen["jobs"])
        figures.note("threads", seen["threads"])
        figures.note("memory per trigger", seen["memory"] / 1e3, "KB")
        figures.show()
        found.append(figures)
    ratios = Figures("How many times less CPU per job and poll")
    for peer in ("OpenAI", "common.ai"):
        ratios.bound(f"listed, beside {peer}", cpu[peer] / cpu["ours, listed"], ">=", 100)
        ratios.bound(f"one by one, beside {peer}", cpu[peer] / cpu["ours, one by one"], ">=", 5)
    ratios.show()
    sys.exit(exit_code([*found, ratios], check=given.check))


if __name__ == "__main__":
    main()
