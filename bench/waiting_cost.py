"""How many worker seconds a job costs: a task that defers, compared with one that waits in its worker.

``python bench/waiting_cost.py`` runs ``LaminiBatchInferenceOperator`` both ways against the stub. Each phase of a task runs
in a process of its own, as on a worker: a task that waits in its worker has one phase; a task that defers has one until it
defers and one from the event on. The trigger that runs in between is measured as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.timed_jobs import running_stub
from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

RESULT = "result: "
"""Prefix of the line on which a phase prints its result."""


def run_phase(phase: str, output: str, argument: Any) -> None:
    """Run one phase of a task in this process, and print its result.

    :param phase: ``wait``, ``defer``, ``trigger`` or ``resume``
    :param output: path of the task's output folder
    :param argument: the deferral for ``trigger``; the deferral and the event for ``resume``
    """
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from tests.support.tasks import Deferral, begin, execute, wake

    def make() -> LaminiBatchInferenceOperator:
        return LaminiBatchInferenceOperator(
            task_id="infer",
            model_name="m",
            input=[f"Order {number}" for number in range(100)],
            output=output,
            deferrable=phase != "wait",
        )

    result: object = None
    if phase == "wait":
        execute(make())
    elif phase == "defer":
        result = asdict(begin(make))
    elif phase == "trigger":
        cpu = time.process_time()
        event = Deferral(**argument).wait(timeout=600)
        result = {"event": event, "cpu": time.process_time() - cpu}
    else:
        wake(make, Deferral(**argument["deferral"]), argument["event"])
    print(RESULT + json.dumps(result))


@dataclass(frozen=True)
class Phase:
    """A phase that ran in a process of its own.

    :param seconds: how long the process ran
    :param cpu: its CPU seconds
    :param result: what :func:`run_phase` printed
    """

    seconds: float
    cpu: float
    result: Any


def start_phase(phase: str, folder: str, url: str, argument: object = None) -> Phase:
    """Run a phase in a new process.

    :param folder: path of a folder for Airflow and the output
    :param url: the stub's address
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": folder,
        "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps({"conn_type": "lamini", "host": url, "password": "k"}),
    }
    output = f"{folder}/{'waited' if phase == 'wait' else 'deferred'}"
    command = [sys.executable, __file__, "--phase", phase, "--output", output]
    before, started_at = os.times(), time.monotonic()
    process = subprocess.run(
        [*command, "--argument", json.dumps(argument)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - started_at, os.times()
    if process.returncode:
        raise SystemExit(process.stderr[-4000:])
    line = next(line for line in process.stdout.splitlines() if line.startswith(RESULT))
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Phase(seconds, cpu, json.loads(line.removeprefix(RESULT)))


def measure(job_seconds: float) -> tuple[Figures, float, float]:
    """Run a job both ways.

    :return: the figures; worker seconds of a waiting task in addition to the job's; worker seconds of a deferred task
    """
    with tempfile.TemporaryDirectory() as folder, running_stub(seconds=job_seconds) as stub:
        wait = start_phase("wait", folder, stub.url)
        defer = start_phase("defer", folder, stub.url)
        trigger = start_phase("trigger", folder, stub.url, defer.result)
        argument = {"deferral": defer.result, "event": trigger.result["event"]}
        resume = start_phase("resume", folder, stub.url, argument)
    figures = Figures(f"A batch of 100 rows that takes {job_seconds:g} s")
    figures.note("waiting in the worker: seconds in the worker", wait.seconds, "s")
    figures.note("waiting in the worker: CPU", wait.cpu, "s")
    figures.note("deferred: seconds in workers, two processes", defer.seconds + resume.seconds, "s")
    figures.note("deferred: CPU of the two processes", defer.cpu + resume.cpu, "s")
    figures.note("deferred: CPU in the triggerer, for one trigger alone", trigger.result["cpu"], "s")
    return figures, wait.seconds - job_seconds, defer.seconds + resume.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="a job of two minutes; takes five minutes")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    parser.add_argument("--argument", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        run_phase(options.phase, options.output, json.loads(options.argument))
        return
    figures, overhead, deferred = measure(120 if options.full else 15)
    figures.print()
    table = Figures("Worker seconds per job, computed from these figures")
    for name, length in (("10 minutes", 600.0), ("1 hour", 3600.0), ("4 hours", 14400.0)):
        table.note(f"a job of {name}: waiting in the worker", length + overhead, "s")
        table.note(f"a job of {name}: deferred", deferred, "s")
        table.check(f"a job of {name}: ratio", (length + overhead) / deferred, ">=", 10)
    table.print()
    sys.exit(exit_status([table], check=options.check))


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
