"""Hundreds of tasks that are deferred at once, under Airflow's real scheduler and triggerer.

``python bench/deferred_tasks.py`` maps an operator over 500 inputs, waits until all tasks are deferred, watches the
triggerer for a minute, and then lets the platform finish. ``--provider openai`` does the same with the OpenAI provider's
batch operator, in an environment that contains it (``make bench-peers`` creates one). The platform is a stub. Starting and
resuming 500 tasks keeps two cores busy for some ten minutes; ``--tasks 40`` is a short form.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.timed_jobs import Stub, running_stub
from bench.support.figures import Figures, exit_status
from bench.support.lag import idle_loop
from tests.support.airflow_stack import AirflowStack, airflow_stack
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKED = "async thread was blocked"
"""Part of the triggerer's warning that its event loop did not run for 0.2 s."""

SETTLE = 40
"""Seconds until a triggerer has started, and until young jobs are polled at the longest interval."""

FOREVER = 1e9


def make_environment(stub: Stub, tasks: int, output: Path) -> dict[str, str]:
    """Return the environment variables that the Dags and the components need."""
    openai = {"conn_type": "openai", "password": "no-secret", "host": f"{stub.url}/v1"}
    return {
        "AIRFLOW_CONN_LAMINI_DEFAULT": stub.connection(),
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(openai),
        "BENCH_TASKS": str(tasks),
        "BENCH_OUTPUT": str(output),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "0",
    }


def count_states(home: Path) -> dict[str, int]:
    """Return the number of task instances in each state."""
    with closing(sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=60)) as database:
        rows = database.execute("select state, count(*) from task_instance group by state").fetchall()
    return {str(state): count for state, count in rows}


def all_deferred(home: Path, tasks: int) -> bool:
    """Return whether all tasks are deferred.

    :raises SystemExit: if one has failed
    """
    states = count_states(home)
    if states.get("deferred", 0) == tasks:
        return True
    if states.get("failed"):
        raise SystemExit(f"tasks failed before they were deferred: {states}")
    return False


def time_until(condition: Callable[[], bool]) -> float:
    """Wait at most an hour for a condition, and return the seconds that it took."""
    started_at = time.monotonic()
    wait_until(condition, timeout=3600, pause=1)
    return time.monotonic() - started_at


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants have used."""
    return sum(sum(process.cpu_times()[:2]) for process in process_tree(pid))


@dataclass(frozen=True)
class TriggererCost:
    """What the triggerer costs while all tasks wait.

    :param cpu: share of a core
    :param idle_cpu: share of a core of an idle triggerer
    :param memory: bytes
    :param requests: requests per second to the platform
    :param connections: maximum number of connections to the platform
    """

    cpu: float
    idle_cpu: float
    memory: int
    requests: float
    connections: int


def measure_triggerer(stack: AirflowStack, stub: Stub, seconds: float) -> TriggererCost:
    """Watch the triggerer, then an idle one beside it."""
    time.sleep(SETTLE)
    pid = stack.processes["triggerer"].pid
    stub.control("reset")
    cpu = cpu_of(pid)
    time.sleep(seconds)
    cpu = cpu_of(pid) - cpu
    counters = stub.control("stats")
    idle_cpu = measure_idle_triggerer(stack, seconds)
    return TriggererCost(
        cpu=cpu / seconds,
        idle_cpu=idle_cpu / seconds,
        memory=sum(process.memory_info().rss for process in process_tree(pid)),
        requests=sum(counters["requests"].values()) / seconds,
        connections=counters["connections"],
    )


def measure_idle_triggerer(stack: AirflowStack, seconds: float) -> float:
    """Return the CPU seconds of a second triggerer, which has no triggers to run."""
    command = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
    with (stack.logs / "idle.log").open("ab") as log:
        triggerer = subprocess.Popen(
            command, env=stack.env, cwd=stack.home, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            time.sleep(SETTLE)
            cpu = cpu_of(triggerer.pid)
            time.sleep(seconds)
            return cpu_of(triggerer.pid) - cpu
        finally:
            for process in reversed(process_tree(triggerer.pid)):
                process.kill()
            triggerer.wait()


def measure(provider: str, tasks: int, seconds: float) -> Figures:
    """Run one Dag from start to end.

    :param provider: ``ours`` or ``openai``
    :param seconds: how long to watch the triggerer
    """
    dag = ROOT / "bench" / "dags" / f"deferred_{provider}.py"
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stub(seconds=FOREVER, rows=1) as stub,
        idle_loop(str(ROOT)) as idle,
    ):
        home = Path(folder) / "airflow"
        with airflow_stack(home, [dag], make_environment(stub, tasks, Path(folder) / "output")) as stack:
            run = stack.trigger_dag(dag.stem)
            start_seconds = time_until(lambda: all_deferred(home, tasks))
            cost = measure_triggerer(stack, stub, seconds)
            stub.control("end")
            end_seconds = time_until(lambda: stack.run_state(run) in {"success", "failed"})
            states = count_states(home)
            log = (stack.logs / "triggerer.log").read_text(errors="replace")
    for line in log.splitlines():
        if BLOCKED in line:
            print(line)
    figures = Figures(f"{tasks} deferred tasks, {provider}, under Airflow's real components")
    figures.check("tasks that succeeded", states.get("success", 0), ">=", tasks)
    figures.check("warnings about a blocked event loop", log.count(BLOCKED), "<=", 0)
    figures.note("   an idle loop at the same time: times blocked", idle["blocked"])
    figures.note("   an idle loop at the same time: maximum lag", idle["max"], "ms")
    figures.note("triggerer CPU while all wait, share of a core", cost.cpu * 100, "%")
    figures.note("   when idle", cost.idle_cpu * 100, "%")
    figures.note("triggerer memory", cost.memory / 1e6, "MB")
    figures.note("requests per minute", cost.requests * 60)
    figures.note("connections", cost.connections)
    figures.note("time until all were deferred", start_seconds, "s")
    figures.note("time from the end of the jobs to the end of the run", end_seconds, "s")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--provider", choices=["ours", "openai"], default="ours")
    parser.add_argument("--tasks", type=int, default=500, help="number of tasks")
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch the triggerer")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    options = parser.parse_args()
    figures = measure(options.provider, options.tasks, options.seconds)
    figures.print()
    sys.exit(exit_status([figures], check=options.check))


if __name__ == "__main__":
    main()
