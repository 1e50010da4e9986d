"""The sharded example Dag in a production set-up whose processes are killed in turn. ``make production-trial``.

CeleryExecutor on PostgreSQL and Redis, two workers, two triggerers, a scheduler, an API server and the local platform. In
each run a person also clears a waiting shard, and marks another as failed and clears it. What the platform was asked to do
and what is on storage must then be the same as without any of that: exits with 1 after a duplicate or a loss.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from airflow_provider_lamini.results import read_shards
from bench.support.figures import Figures, exit_status
from tests.support import demo
from tests.support.airflow_stack import RUN_ENDED, Run
from tests.support.local_platform import local_platform
from tests.support.processes import unwind_on_sigterm
from tests.support.production_stack import ProductionStack, production_stack
from tests.support.upstream import TEXT_MODEL, upstream

if TYPE_CHECKING:
    from tests.support.airflow_stack import AirflowStack
    from tests.support.local_platform import LocalPlatform

DAG_FILE = demo.EXAMPLES / "sharded_batch_inference.py"
SHARDS = 8
CHUNKS = 20
ROWS_PER_CHUNK = 5
"""As in the Dag file."""
TARGETS = ("worker-1", "triggerer-1", "database", "scheduler", "worker-2", "triggerer-2")
SENT_AGAIN = "may have been started before; submitting it again"
"""Part of the warning about a submission that a kill interrupted."""


def write_input(folder: Path) -> list[str]:
    """Write the files of the shards; return the ids of all rows in order."""
    tickets = (demo.EXAMPLES / "data" / "support_tickets.jsonl").read_text("utf-8").splitlines()
    rows = itertools.cycle(json.loads(line) for line in tickets)
    ids = []
    folder.mkdir()
    for shard in range(SHARDS):
        with (folder / f"shard-{shard}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(CHUNKS * ROWS_PER_CHUNK):
                ids.append(f"{shard}-{number}")
                file.write(json.dumps(next(rows) | {"ticket_id": ids[-1]}) + "\n")
    return ids


@dataclass
class Killer:
    """Kills the components in turn, each as soon as the one before runs again.

    :param stack: the components
    :param seconds: time between two kills
    :param jitter: random numbers
    """

    stack: ProductionStack
    seconds: float
    jitter: random.Random
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    exits: int = 0
    next_at: float = 0.0

    def __post_init__(self) -> None:
        self._targets = itertools.cycle(TARGETS)

    def look(self) -> None:
        """Restart what has exited, for example because the database was gone, and kill the next component if it is time."""
        self.exits += len(self.stack.restart_exited())
        if time.monotonic() < self.next_at:
            return
        self.next_at = time.monotonic() + self.seconds * self.jitter.uniform(0.5, 1.5)
        target = next(self._targets)
        if target == "database":
            self.stack.database.kill()
            self.stack.database.start()
        else:
            self.stack.airflow.stop(target, signal.SIGKILL)
            self.stack.airflow.start(target)
        self.kills[target] += 1


class Person:
    """Someone who clears a waiting shard, and marks another as failed and then clears it.

    :param airflow: Airflow's components
    :param run: the Dag run
    :ivar done: what was done to which shard
    """

    def __init__(self, airflow: AirflowStack, run: Run) -> None:
        self._airflow = airflow
        self._run = run
        self.done: dict[str, int] = {}

    def look(self) -> None:
        """Take the next step if a task is in the right state."""
        infer = [task for task in self._airflow.task_instances(self._run) if task["task_id"] == "infer"]
        waiting = [task["map_index"] for task in infer if task["state"] == "deferred"]
        failed = [task["map_index"] for task in infer if task["state"] == "failed"]
        if "marked as failed" not in self.done and waiting:
            self._airflow.mark_failed(self._run, "infer", waiting[0])
            self.done["marked as failed"] = waiting[0]
        elif "cleared after that" not in self.done and failed:
            self._airflow.clear(self._run, "infer", failed[0])
            self.done["cleared after that"] = failed[0]
        elif "cleared while it waited" not in self.done and set(waiting) - set(self.done.values()):
            self.done["cleared while it waited"] = min(set(waiting) - set(self.done.values()))
            self._airflow.clear(self._run, "infer", self.done["cleared while it waited"])


def run_dag(
    stack: ProductionStack, killer: Killer, conf: dict[str, str], kills: int, seconds: float
) -> Person:
    """Run the Dag once, and disturb it meanwhile.

    :param conf: the Dag's parameters
    :param kills: number of kills after which nothing is killed any more
    :param seconds: the time it may take
    :return: what a person did
    :raises SystemExit: if it does not end in time, or fails
    """
    run = stack.airflow.trigger_dag("sharded_batch_inference", conf)
    person = Person(stack.airflow, run)
    killer.next_at = time.monotonic() + 5
    end = time.monotonic() + seconds
    state = "running"
    while state not in RUN_ENDED:
        if time.monotonic() > end:
            stack.airflow.show_logs()
            raise SystemExit(
                f"the run did not end within {seconds:.0f} s: {stack.airflow.task_instances(run)}"
            )
        if killer.kills.total() < kills:
            killer.look()
        else:
            stack.restart_exited()
        try:
            person.look()
            state = stack.airflow.run_state(run)
        except (httpx.HTTPError, AssertionError) as error:  # the database is away, or the API server starts
            print("the API does not answer:", str(error)[:100], flush=True)
        time.sleep(1)  # each turn is three requests to the API server
    if state != "success":
        stack.airflow.show_logs()
        raise SystemExit(f"the run ended as {state}")
    return person


def lost_and_doubled(rows: list[dict[str, Any]], ids: list[str]) -> tuple[int, int]:
    """Compare the output with the input.

    :param rows: all rows of the output
    :param ids: the rows' ids in the input, in order
    :return: number of rows that are missing or have no answer; number of rows that are there too often or at a wrong place
    """
    answered = [row["ticket_id"] for row in rows if row["error"] is None]
    lost = set(ids) - set(answered)
    first = list(dict.fromkeys(row["ticket_id"] for row in rows))
    misplaced = sum(found != wanted for found, wanted in zip(first, ids, strict=False)) if not lost else 0
    return len(lost), len(rows) - len(first) + misplaced


def read_logs(home: Path) -> tuple[int, int, collections.Counter[str]]:
    """Read the logs of the tasks and of their triggers.

    :return: number of tries; number of triggers that ran; the warnings and errors, without numbers, and how often each was logged
    """
    folder = home / "logs" / "dag_id=sharded_batch_inference"
    files = list(folder.rglob("*.log"))
    triggers = [file for file in files if ".trigger." in file.name]
    found: collections.Counter[str] = collections.Counter()
    for file in files:
        for line in file.read_text("utf-8", "replace").splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("level") in {"warning", "error", "critical"}:
                found[f"{entry['level']}: {re.sub(r'[0-9]+', 'N', str(entry['event']))[:110]}"] += 1
    return len(files) - len(triggers), len(triggers), found


def trial(folder: Path, options: argparse.Namespace) -> Figures:
    """Run the Dag until enough has been killed, and compare the results."""
    ids = write_input(folder / "input")
    killer_seed = random.Random(options.seed)
    with (
        upstream(tokens_per_second=options.speed) as engine,
        local_platform(folder / "platform", engine.url) as platform,
        production_stack(folder / "airflow", [DAG_FILE], connection(platform)) as stack,
    ):
        killer = Killer(stack, options.seconds, killer_seed)
        lost = doubled = acts = runs = 0
        started_at = time.monotonic()
        while runs == 0 or killer.kills.total() < options.kills:
            runs += 1
            conf = {
                "input": str(folder / "input"),
                "output": str(folder / f"out-{runs}"),
                "model": TEXT_MODEL,
            }
            person = run_dag(stack, killer, conf, options.kills, options.timeout)
            acts += len(person.done)
            (output,) = (folder / f"out-{runs}").iterdir()
            new = lost_and_doubled(list(read_shards(str(output))), ids)
            lost, doubled = lost + new[0], doubled + new[1]
            print(
                f"run {runs} ended after {time.monotonic() - started_at:.0f} s; "
                f"{dict(killer.kills)} killed, {person.done}; jobs so far: {len(platform.control.jobs())}",
                flush=True,
            )
        jobs = len(platform.control.jobs())
        tries, triggers, messages = read_logs(folder / "airflow")
    again = sum(count for text, count in messages.items() if SENT_AGAIN in text)
    expected = runs * SHARDS * CHUNKS
    figures = Figures(f"{runs} runs of 8 shards x 20 chunks under CeleryExecutor, PostgreSQL and Redis")
    for target in sorted(killer.kills):
        figures.note(f"kills: {target}", killer.kills[target])
    figures.note("components that exited by themselves and were restarted", killer.exits)
    figures.check("tasks cleared, marked as failed, and cleared after that", acts, ">=", 3 * runs)
    figures.note("tries of tasks", tries)
    figures.check("triggers that ran", triggers, ">=", runs * SHARDS)
    figures.note("jobs started", jobs)
    figures.note("   submitted again as documented, because a kill hit the submission", again)
    figures.note("rows", runs * len(ids))
    figures.check("duplicates: other jobs beyond one per chunk", max(0, jobs - expected - again), "<=", 0)
    figures.check("rows lost", lost, "<=", 0)
    figures.check("rows doubled or out of order", doubled, "<=", 0)
    figures.note("warnings and errors in the tasks' logs", messages.total())
    figures.print()
    for text, count in messages.most_common(15):
        print(f"  {count:5d}  {text}")
    return figures


def connection(platform: LocalPlatform) -> dict[str, str]:
    """Return the environment variables with the connection to the platform."""
    fields = {"conn_type": "lamini", "host": platform.url, "password": platform.key}
    return {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(fields)}


def main() -> int:
    """Run the trial and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="number of kills; the Dag runs until then")
    parser.add_argument("--seconds", type=float, default=12, help="mean time between two kills")
    parser.add_argument("--speed", type=float, default=0.5, help="tokens per second of a request")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one run of the Dag may take")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="production-") as folder:
        figures = trial(Path(folder), options)
    return exit_status([figures], check=True)


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
