"""What it costs a triggerer that thousands of tasks wait for jobs.

``python bench/waiting.py`` runs three scenes, each in a process of its own against a stub of the platform in another
process: 10,000 tuning jobs, which the platform can list; the same beside 100,000 old jobs in that list; and batches,
which have to be asked for one by one. ``--full`` takes the interval and the numbers of the bounds as they are; the
short form shortens the interval, and takes fewer batches so that as many requests are sent in a second.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.bounds import Figures, exit_code
from bench.support.scenes import Scene, play


def listed(scene: Scene) -> Figures:
    """Jobs of a kind that can be listed."""
    seen, idle = play(scene, sys.executable)
    figures = Figures(scene.title())
    requests = sum(seen["requests"].values()) / seen["intervals"]
    figures.bound("requests per interval, for all jobs", requests, "<=", 5)
    polls = scene.jobs * seen["requests"]["list of tuning jobs"] + seen["requests"].get("tuning job", 0)
    figures.bound("CPU per job and poll", seen["cpu"] / polls * 1e3, "<=", 0.05, "ms")
    common(figures, seen, idle, connections=4)
    figures.note("answered by the platform per interval", seen["megabytes"] / seen["intervals"], "MB")
    return figures


def each(scene: Scene) -> Figures:
    """Jobs of a kind that cannot be listed."""
    seen, idle = play(scene, sys.executable)
    figures = Figures(scene.title())
    polls = sum(seen["requests"].values())
    figures.note("polls per second", polls / (seen["intervals"] * seen["interval"]))
    figures.bound("CPU per poll", seen["cpu"] / polls * 1e3, "<=", 1.0, "ms")
    figures.note("CPU of a bare httpx request, in the same rhythm", seen["bare"] * 1e3, "ms")
    common(figures, seen, idle, connections=32)
    figures.bound("fullest second's requests over the mean's", seen["spread"], "<=", 2.0)
    return figures


def common(figures: Figures, seen: dict[str, float], idle: dict[str, float], connections: int) -> None:
    """What holds for every kind."""
    figures.note("event loop late, p99", seen["lag_p99"], "ms")
    figures.note("   an idle loop meanwhile", idle["p99"], "ms")
    figures.bound("   more than that", max(0.0, seen["lag_p99"] - idle["p99"]), "<=", 20, "ms")
    figures.note("event loop late, at most", seen["lag_max"], "ms")
    figures.note("   of that, Python's garbage collector", seen["gc_max"], "ms")
    figures.note("   an idle loop meanwhile", idle["max"], "ms")
    figures.bound("   more than that", max(0.0, seen["lag_max"] - idle["max"]), "<=", 100, "ms")
    figures.bound("connections", seen["connections"], "<=", connections)
    figures.bound("memory per trigger", seen["memory"] / 1e3, "<=", 60, "KB")
    figures.note("while all start: CPU per trigger", seen["start_cpu"] / seen["jobs"] * 1e3, "ms")
    figures.note("while all start: requests, looks included", seen["start_requests"])
    late = "event loop late, at most"
    most = 100 + idle["max"]
    figures.bound(f"while all start: {late}", seen["start_lag_max"], "<=", most, "ms")
    figures.note("   of that, Python's garbage collector", seen["start_gc_max"], "ms")
    figures.bound(f"while all end at once: {late}", seen["end_lag_max"], "<=", most, "ms")
    figures.note("   of that, Python's garbage collector", seen["end_gc_max"], "ms")
    figures.note("from the end on the platform to the last event", seen["to_last_event"], "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="30 s intervals, 2,000 batches; nine minutes")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound is missed")
    parser.add_argument("--scene", choices=["list", "old", "each"], help="only this one")
    given = parser.parse_args()
    if given.full:
        interval, long_lists, batches = 30, 30, Scene("batch", 2000, interval=30, intervals=3)
    else:
        print("Short form: intervals of 8 s and 15 s in place of 30 s, and 530 batches in place of 2,000.")
        interval, long_lists, batches = 8, 15, Scene("batch", 530, interval=8, intervals=2)
    scenes = {
        "list": lambda: listed(Scene("tuning", 10_000, interval=interval, intervals=2)),
        "old": lambda: listed(Scene("tuning", 10_000, old=100_000, interval=long_lists, intervals=2)),
        "each": lambda: each(batches),
    }
    found = []
    for name, run in scenes.items():
        if given.scene in (None, name):
            found.append(run())
            found[-1].show()
    sys.exit(exit_code(found, check=given.check))


if __name__ == "__main__":
    main()
