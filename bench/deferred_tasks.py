"""Hundreds of tasks that are deferred at once, under Airflow's real scheduler and triggerer.

``python bench/deferred_tasks.py`` maps an operator over 500 inputs, waits until all tasks are deferred, watches the
triggerer for a minute, and then lets the platform finish. ``--provider openai`` does the same with the OpenAI provider's
batch operator, in an environment that contains it (``make bench-peers`` creates one). The platform is a stub. Starting and
resuming 500 tasks keeps two cores busy for some ten minutes; ``--tasks 40`` is a short form.

``--job-seconds 2`` instead lets each job end after 2 s, and counts the tasks that fail: a deferral that is over within seconds
can race with Airflow's scheduler. ``--triggerers 2`` uses CeleryExecutor, PostgreSQL and Redis, in the environment of
``make production-trial``, and measures each triggerer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.timed_jobs import Stub, running_stub
from bench.support.figures import Figures, exit_status
from bench.support.lag import idle_loop
from tests.support.airflow_stack import RUN_ENDED, AirflowStack, airflow_stack
from tests.support.databases import Database
from tests.support.local_platform import wait_until
from tests.support.processes import unwind_on_sigterm
from tests.support.production_stack import production_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCKED = "async thread was blocked"
"""Part of the triggerer's warning that its event loop did not run for 0.2 s."""

RACE = "finished with state success, but the task instance's state attribute is"
"""Part of the scheduler's error about a task that it fails because it learned of the deferral only after the resume."""

SETTLE = 40
"""Seconds until a triggerer has started, and until young jobs are polled at the longest interval."""

FOREVER = 1e9


@dataclass(frozen=True)
class Options:
    """What to measure.

    :param provider: ``ours`` or ``openai``
    :param tasks: number of tasks
    :param seconds: how long to watch the triggerers
    :param job_seconds: how long each job runs; ``None``: until all tasks are deferred and the triggerers were watched
    :param triggerers: number of triggerers
    :param defer_after: seconds that a task of ours waits in its worker before it defers
    :param min_trigger_seconds: seconds from the start of a trigger of ours to its event, at least
    :param stop_early: stop when the triggerers were watched, without resuming the tasks
    """

    provider: str
    tasks: int
    seconds: float
    job_seconds: float | None
    triggerers: int
    defer_after: float
    min_trigger_seconds: float
    stop_early: bool


def make_environment(stub: Stub, options: Options, output: Path) -> dict[str, str]:
    """Return the environment variables that the Dags and the components need."""
    openai = {"conn_type": "openai", "password": "no-secret", "host": f"{stub.url}/v1"}
    return {
        "AIRFLOW_CONN_LAMINI_DEFAULT": stub.connection(),
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(openai),
        "BENCH_TASKS": str(options.tasks),
        "BENCH_POLL_INTERVAL": "30" if options.job_seconds is None else "1",
        "BENCH_OUTPUT": str(output),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": str(options.defer_after),
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": str(options.min_trigger_seconds),
    }


@dataclass(frozen=True)
class Running:
    """Airflow's running components, with their database."""

    stack: AirflowStack
    database: Database

    def states(self) -> dict[str, int]:
        """Return the number of task instances in each state."""
        rows = self.database.rows("select state, count(*) from task_instance group by state")
        return {str(state): count for state, count in rows}

    def all_deferred(self, tasks: int) -> bool:
        """Return whether all tasks are deferred.

        :raises SystemExit: if one has failed
        """
        states = self.states()
        if states.get("deferred", 0) == tasks:
            return True
        if states.get("failed"):
            raise SystemExit(f"tasks failed before they were deferred: {states}")
        return False

    def has_ended(self) -> bool:
        """Return whether the Dag run has ended. A busy API server may not answer in time, so this asks the database."""
        return self.database.rows("select state from dag_run")[0][0] in RUN_ENDED

    def triggerers(self) -> dict[str, int]:
        """Return the process id of each triggerer."""
        return {
            name: process.pid
            for name, process in self.stack.processes.items()
            if name.startswith("triggerer")
        }


@contextmanager
def running_airflow(home: Path, dag: Path, env: dict[str, str], triggerers: int) -> Iterator[Running]:
    """Run Airflow: with SQLite and the LocalExecutor, or, for several triggerers, in a production set-up."""
    if triggerers == 1:
        with airflow_stack(home, [dag], env) as stack:
            yield Running(stack, Database({"conn_type": "sqlite", "host": str(home / "airflow.db")}, "?"))
        return
    with production_stack(home, [dag], env, triggerers=triggerers) as production:
        yield Running(production.airflow, production.database.database)


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
    """What one triggerer costs while all tasks wait.

    :param cpu: share of a core
    :param memory: bytes
    """

    cpu: float
    memory: int


def measure_triggerers(running: Running, stub: Stub, seconds: float) -> tuple[dict[str, TriggererCost], Any]:
    """Watch the triggerers; return what each costs, and the stub's counters."""
    time.sleep(SETTLE)
    pids = running.triggerers()
    stub.control("reset")
    before = {name: cpu_of(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    costs = {
        name: TriggererCost(
            cpu=(cpu_of(pid) - before[name]) / seconds,
            memory=sum(process.memory_info().rss for process in process_tree(pid)),
        )
        for name, pid in pids.items()
    }
    return costs, stub.control("stats")


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


def measure(options: Options) -> Figures:
    """Run one Dag from start to end."""
    dag = ROOT / "bench" / "dags" / f"deferred_{options.provider}.py"
    job_seconds = FOREVER if options.job_seconds is None else options.job_seconds
    figures = Figures(
        f"{options.tasks} deferred tasks, {options.provider}, under Airflow's real components"
        + (f", jobs of {job_seconds:g} s" if options.job_seconds is not None else "")
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stub(seconds=job_seconds, rows=1) as stub,
        idle_loop(str(ROOT)) as idle,
        running_airflow(
            Path(folder) / "airflow",
            dag,
            make_environment(stub, options, Path(folder) / "output"),
            options.triggerers,
        ) as running,
    ):
        running.stack.trigger_dag(dag.stem)
        if options.job_seconds is None:
            start = time_until(lambda: running.all_deferred(options.tasks))
            figures.note("time until all were deferred", start, "s")
            watch(running, stub, options, figures)
            stub.control("end")
        if not options.stop_early:
            finish(running, options, figures)
        check_lag(running, figures)
    figures.note("an idle loop at the same time: times blocked", idle["blocked"])
    figures.note("an idle loop at the same time: maximum lag", idle["max"], "ms")
    return figures


def watch(running: Running, stub: Stub, options: Options, figures: Figures) -> None:
    """Measure what the triggerers cost while all tasks wait."""
    costs, counters = measure_triggerers(running, stub, options.seconds)
    triggers = running.database.rows("select count(*) from trigger group by triggerer_id")
    figures.note("triggers of the busiest triggerer", max(count for (count,) in triggers))
    for name, cost in costs.items():
        figures.note(f"{name}: CPU while all wait, share of a core", cost.cpu * 100, "%")
        figures.note(f"{name}: memory", cost.memory / 1e6, "MB")
    figures.note("requests per minute", sum(counters["requests"].values()) / options.seconds * 60)
    figures.note("connections", counters["connections"])
    if options.triggerers == 1:
        idle_cpu = measure_idle_triggerer(running.stack, options.seconds)
        figures.note("CPU of an idle triggerer, share of a core", idle_cpu / options.seconds * 100, "%")


def finish(running: Running, options: Options, figures: Figures) -> None:
    """Wait until the run has ended, and count the tasks that succeeded."""
    end = time_until(running.has_ended)
    states = running.states()
    figures.check("tasks that succeeded", states.get("success", 0), ">=", options.tasks)
    figures.note("tasks that failed", states.get("failed", 0))
    scheduler = (running.stack.logs / "scheduler.log").read_text(errors="replace")
    figures.check(
        "tasks that the scheduler failed although they were resumed", scheduler.count(RACE), "<=", 0
    )
    figures.note("time from the end of the jobs to the end of the run", end, "s")


def check_lag(running: Running, figures: Figures) -> None:
    """Count and print the triggerers' warnings."""
    logs = [(running.stack.logs / f"{name}.log").read_text(errors="replace") for name in running.triggerers()]
    late = [line for log in logs for line in log.splitlines() if BLOCKED in line]
    print(*late, sep="\n")
    figures.check("warnings about a blocked event loop", len(late), "<=", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--provider", choices=["ours", "openai"], default="ours")
    parser.add_argument("--tasks", type=int, default=500, help="number of tasks")
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch the triggerers")
    parser.add_argument("--job-seconds", type=float, help="let each job end after this time; watch nothing")
    parser.add_argument("--triggerers", type=int, default=1, help="more than one needs .venv-production")
    parser.add_argument("--defer-after", type=float, default=0.0, help="our setting defer_after")
    parser.add_argument("--min-trigger-seconds", type=float, default=10.0, help="our setting of that name")
    parser.add_argument("--stop-early", action="store_true", help="do not let the tasks resume and end")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    arguments = vars(parser.parse_args())
    check = arguments.pop("check")
    figures = measure(Options(**arguments))
    figures.print()
    sys.exit(exit_status([figures], check=check))


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
