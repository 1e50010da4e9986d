"""Hundreds of tasks deferred at once under Airflow's real scheduler and triggerer, beside the OpenAI provider.

``python bench/deferred_tasks.py`` maps an operator over 500 inputs, waits until all tasks are deferred, watches the
triggerer for a minute, then lets the platform finish. ``--provider openai`` does the same with that provider's batch
operator (in an environment that holds it: ``make bench-peers``). The platform is the stub of ``bench/stubs``. Starting
500 tasks and waking them takes Airflow itself some ten minutes on two cores: ``--tasks 40`` is the short form.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.running import Stub, running_stub
from bench.support.bounds import Figures, exit_code
from bench.support.loop import idle_loop
from tests.support.airflow_stack import AirflowStack, airflow_stack
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKED = "async thread was blocked"
"""What Airflow's triggerer says when its event loop did not run for 0.2 s."""
FOREVER = 1e9


def environment(stub: Stub, tasks: int, output: Path) -> dict[str, str]:
    """What the components need besides."""
    openai = {"conn_type": "openai", "password": "no-secret", "host": f"{stub.url}/v1"}
    return {
        "AIRFLOW_CONN_LAMINI_DEFAULT": stub.connection(),
        "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(openai),
        "BENCH_TASKS": str(tasks),
        "BENCH_OUTPUT": str(output),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    }


def states(home: Path) -> dict[str, int]:
    """How many tasks are in which state."""
    database = sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=60)
    try:
        found = database.execute("select state, count(*) from task_instance group by state").fetchall()
    finally:
        database.close()
    return {str(state): count for state, count in found}


def waited(true: Callable[[], bool]) -> float:
    """Wait, an hour at the most; returns the seconds that it took."""
    begin = time.monotonic()
    wait_until(true, timeout=3600, pause=1)
    return time.monotonic() - begin


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    return sum(sum(each.cpu_times()[:2]) for each in family(pid))


def play(provider: str, tasks: int, seconds: float) -> Figures:
    """One Dag run, from start to end."""
    dag = ROOT / "bench" / "dags" / f"deferred_{provider}.py"
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stub(seconds=FOREVER, rows=1) as stub,
        idle_loop(str(ROOT)) as idle_meanwhile,
    ):
        home = Path(folder) / "airflow"
        with airflow_stack(home, [dag], environment(stub, tasks, Path(folder) / "output")) as stack:
            run = stack.trigger_dag(dag.stem)
            deferring = waited(lambda: states(home).get("deferred", 0) == tasks or failed(home))
            waiting = watch(stack, stub, seconds)
            stub.control("end")
            ending = waited(lambda: stack.run_state(run) in {"success", "failed"})
            ended = states(home)
            log = (stack.logs / "triggerer.log").read_text(errors="replace")
    for line in log.splitlines():
        if BLOCKED in line:
            print(line)
    figures = Figures(f"{tasks} deferred tasks, {provider}, under real components")
    figures.bound("tasks that ended well", ended.get("success", 0), ">=", tasks)
    figures.bound("the triggerer's warnings of a blocked loop", log.count(BLOCKED), "<=", 0)
    figures.note("   times that an idle loop was as late meanwhile", idle_meanwhile["blocked"])
    figures.note("   an idle loop's latest meanwhile", idle_meanwhile["max"], "ms")
    figures.note("triggerer's CPU while all wait, share of a core", waiting["cpu"] / seconds * 100, "%")
    figures.note("   with nothing to wait for, share of a core", waiting["idle"] / seconds * 100, "%")
    figures.note("triggerer's memory while all wait", waiting["memory"] / 1e6, "MB")
    figures.note("requests per minute", waiting["requests"] / seconds * 60)
    figures.note("connections at the most", waiting["connections"])
    figures.note("until all were deferred", deferring, "s")
    figures.note("from the platform's end to the run's", ending, "s")
    return figures


def failed(home: Path) -> bool:
    """Whether tasks have failed, which ends the bench."""
    found = states(home)
    if found.get("failed"):
        raise SystemExit(f"tasks failed before they were deferred: {found}")
    return False


def watch(stack: AirflowStack, stub: Stub, seconds: float) -> dict[str, Any]:
    """What the triggerer costs while everything waits, and what an idle one costs in the same stack."""
    time.sleep(40)  # the first looks, which come sooner than the later ones, are over
    triggerer = stack.processes["triggerer"].pid
    stub.control("reset")
    before = cpu_of(triggerer)
    time.sleep(seconds)
    cpu = cpu_of(triggerer) - before
    counted = stub.control("stats")
    return {
        "cpu": cpu,
        "idle": idle(stack, seconds),
        "memory": sum(each.memory_info().rss for each in family(triggerer)),
        "requests": sum(counted["requests"].values()),
        "connections": counted["connections"],
    }


def idle(stack: AirflowStack, seconds: float) -> float:
    """CPU seconds of a second triggerer, which the first one leaves nothing to do."""
    command = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
    with (stack.logs / "idle.log").open("ab") as log:
        second = subprocess.Popen(
            command, env=stack.env, cwd=stack.home, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            time.sleep(40)
            before = cpu_of(second.pid)
            time.sleep(seconds)
            return cpu_of(second.pid) - before
        finally:
            for each in reversed(family(second.pid)):
                each.kill()
            second.wait()


def main() -> None:
    """Run it for one provider."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", choices=["ours", "openai"], default="ours")
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch the triggerer")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound is missed")
    given = parser.parse_args()
    figures = play(given.provider, given.tasks, given.seconds)
    figures.show()
    sys.exit(exit_code([figures], check=given.check))


if __name__ == "__main__":
    main()
