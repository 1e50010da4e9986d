"""What a job costs in seconds of a worker: a task that defers beside one that waits in place.

``python bench/waiting_cost.py`` runs ``LaminiBatchInferenceOperator`` both ways against the stub. Each piece of a task
runs in a process of its own, as on a worker: the whole task where it waits in place; up to the deferral, and from the
event on, where it defers. What the trigger costs in between is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.running import running_stub
from bench.support.bounds import Figures, exit_code

if TYPE_CHECKING:
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

SAID = "piece: "


def piece(which: str, folder: str, deferral: str) -> None:
    """Run one piece of a task in this process, and print what follows."""
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from tests.support.tasks import Deferral, begin, execute, wake

    def make() -> LaminiBatchInferenceOperator:
        return LaminiBatchInferenceOperator(
            task_id="infer",
            model_name="m",
            input=[f"Order {number}" for number in range(100)],
            output=folder,
            deferrable=which != "in place",
        )

    said: object = None
    if which == "in place":
        execute(make())
    elif which == "until deferred":
        said = asdict(begin(make))
    elif which == "trigger":
        cpu = time.process_time()
        event = Deferral(**json.loads(deferral)).wait(timeout=600)
        said = {"event": event, "cpu": time.process_time() - cpu}
    else:
        given = json.loads(deferral)
        wake(make, Deferral(**given["deferral"]), given["event"])
    print(SAID + json.dumps(said))


def run_piece(which: str, folder: str, url: str, deferral: object = None) -> tuple[float, float, Any]:
    """Run a piece in a new process.

    :returns: how long the process lived, its CPU seconds, and what it said
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": folder,
        "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps({"conn_type": "lamini", "host": url, "password": "k"}),
    }
    output = f"{folder}/{'waited' if which == 'in place' else 'deferred'}"
    command = [sys.executable, __file__, "--piece", which, "--folder", output]
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        [*command, "--deferral", json.dumps(deferral)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lived, after = time.monotonic() - began, os.times()
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    said = next(line for line in done.stdout.splitlines() if line.startswith(SAID))
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return lived, cpu, json.loads(said.removeprefix(SAID))


def measure(seconds: float) -> tuple[Figures, float, float]:
    """A job of so many seconds, both ways."""
    with tempfile.TemporaryDirectory() as folder, running_stub(seconds=seconds) as stub:
        place, place_cpu, _ = run_piece("in place", folder, stub.url)
        first, first_cpu, deferral = run_piece("until deferred", folder, stub.url)
        _, _, waited = run_piece("trigger", folder, stub.url, deferral)
        given = {"deferral": deferral, "event": waited["event"]}
        last, last_cpu, _ = run_piece("from the event on", folder, stub.url, given)
    figures = Figures(f"A batch of 100 rows that takes {seconds:g} s")
    figures.note("waiting in place: worker process", place, "s")
    figures.note("waiting in place: its CPU", place_cpu, "s")
    figures.note("deferred: worker processes", first + last, "s")
    figures.note("deferred: their CPU", first_cpu + last_cpu, "s")
    figures.note("deferred: CPU of a trigger alone in its triggerer", waited["cpu"], "s")
    return figures, place - seconds, first + last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="a job of two minutes; five minutes")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound is missed")
    parser.add_argument("--piece", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--deferral", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.piece:
        piece(given.piece, given.folder, given.deferral)
        return
    figures, around, deferred = measure(120 if given.full else 15)
    figures.show()
    table = Figures("Seconds of a worker per job, from these figures")
    for name, length in (("10 minutes", 600.0), ("1 hour", 3600.0), ("4 hours", 14400.0)):
        table.note(f"a job of {name}: waiting in place", length + around, "s")
        table.note(f"a job of {name}: deferred", deferred, "s")
        table.bound(f"a job of {name}: times less", (length + around) / deferred, ">=", 10)
    table.show()
    sys.exit(exit_code([table], check=given.check))


if __name__ == "__main__":
    main()
