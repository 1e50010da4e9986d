"""The tuning demo: the local platform learns from 50 tickets, and the fine-tuning Dag decides whether that helped.

Run by ``make demo-tuning``.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dags_examples.demo.stage import (
    DAGS,
    DemoError,
    airflow_environment,
    fetch_models,
    local_platform,
    run_dag,
    say,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.platforms.lamini.api.training import TrainJob

DAG_ID = "scheduled_fine_tuning"
DATA = DAGS / "data"
TOLD = ("Tuning job", "step ", "exact_match", "report on", "DEFERRED")
HELD_OUT = 100
"""Held-out tickets that there are."""
WANTED_GAIN = 0.2
"""By so much more of all held-out tickets has to be right; the Dag's own condition."""
WANTED_GAIN_OF_FEW = 0.1
"""What is wanted where some are left out: on 40 tickets chance moves a gain by 10 points, on 100 by 6."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the Dag came to.

    :param job: the tuning job, with its history
    :param seconds: how long it took
    :param scores: one row per held-out ticket
    :param event: the event of the model's asset; None where nothing was promoted
    """

    job: TrainJob
    seconds: float
    scores: list[dict[str, Any]]
    event: dict[str, Any] | None

    def share(self, role: str) -> float:
        """The share of tickets that a model has sorted right.

        :param role: ``model`` or ``base``
        """
        right: float = sum(row[role]["exact_match"] for row in self.scores)
        return right / len(self.scores)


def main() -> int:
    """Run the demo once.

    :return: the exit code: 0 if the model has gained enough, and was promoted for it
    """
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        fetch_models()
        say("2. The local platform")
        with local_platform(folder) as connection:
            environment = airflow_environment(folder, connection)
            data = _tickets(folder, arguments.held_out)
            say(
                f"3. The Dag {DAG_ID}: {arguments.steps} steps on 50 tickets, {arguments.held_out} held-out tickets"
            )
            ran = time.monotonic()
            wanted = WANTED_GAIN if arguments.held_out == HELD_OUT else WANTED_GAIN_OF_FEW
            conf = {"data": str(data), "max_steps": arguments.steps, "gain": wanted}
            outcome = _run(folder, environment, connection, conf)
            _report(outcome, wanted, time.monotonic() - ran, time.monotonic() - began)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps of ten tickets (default 20)")
    parser.add_argument(
        "--held-out", type=int, default=HELD_OUT, help="held-out tickets to sort (default 100)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".demo/tuning"), help="where everything is written"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.held_out <= HELD_OUT:
        parser.error(f"there are {HELD_OUT} held-out tickets: take from 1 to {HELD_OUT}")
    return arguments


def _lines(name: str) -> list[str]:
    return (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def _tickets(folder: Path, held_out: int) -> Path:
    """The tickets to learn from, and so many of those to check with."""
    data = folder / "tickets"
    data.mkdir(exist_ok=True)
    for name, rows in (
        ("tickets_examples", _lines("tickets_examples")),
        ("tickets_held_out", _lines("tickets_held_out")[:held_out]),
    ):
        (data / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    return data


def _run(folder: Path, environment: dict[str, str], connection: str, conf: dict[str, Any]) -> Outcome:
    before = _events(folder)
    output = folder / "output" / time.strftime("%Y%m%d-%H%M%S")
    log = folder / "dag.log"
    run_dag(DAG_ID, conf | {"output": str(output)}, environment, log, TOLD)
    found = list(output.glob("*/scores.jsonl"))
    if len(found) != 1:
        raise DemoError(f"{len(found)} evaluations lie below {output}, not one; the Dag's log: {log}")
    scores = [json.loads(line) for line in found[0].read_text(encoding="utf-8").splitlines()]
    events = _events(folder)
    job = _tuning_job(connection)
    took = re.findall(
        rf"tuning {job.job_id} succeeded after ([\d.]+) s", (folder / "platform.log").read_text()
    )
    event = events[-1] if len(events) > len(before) else None
    return Outcome(job, float(took[-1]), scores, event)


def _events(folder: Path) -> list[dict[str, Any]]:
    """What Airflow has noted of the models that were promoted, the oldest first."""
    with closing(sqlite3.connect(folder / "airflow" / "airflow.db")) as database:
        found = database.execute(
            "SELECT extra FROM asset_event WHERE source_dag_id = ? ORDER BY id", (DAG_ID,)
        )
        return [json.loads(extra) for (extra,) in found]


def _tuning_job(connection: str) -> TrainJob:
    """The last tuning job of the platform."""
    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.lamini.api import training

    fields = json.loads(connection)
    with Client(ClientSettings(base_url=fields["host"], key=fields["password"])) as client:
        return client.send(training.list_jobs())[-1]


def _report(outcome: Outcome, wanted: float, dag_seconds: float, all_seconds: float) -> None:
    base, tuned = outcome.share("base"), outcome.share("model")
    steps = outcome.job.steps()
    first, last = steps[0], steps[-1]
    rows = len(outcome.scores)
    print(f"\nbase model   {base:.0%} of {rows} held-out tickets right (a guess would be right in 20%)")
    print(f"tuned model  {tuned:.0%}: {100 * (tuned - base):+.0f} points")
    print(
        f"tuning       {last.step} steps in {outcome.seconds:.0f} s, loss {first.loss:.2f} at first, {last.loss:.2f} at last"
    )
    print(f"time         {dag_seconds:.0f} s for the Dag run, {all_seconds:.0f} s in all")
    if outcome.event is None:
        points = f"{100 * (tuned - base):.0f} points, {100 * wanted:.0f} are wanted"
        raise DemoError(f"nothing was promoted: the gain is {points}")
    gain = outcome.event["metrics"]["gain"]["exact_match"]
    print(f"promoted     {outcome.event['model_name']}")
    print(f"             for its gain of {100 * gain:.0f} points, at least {100 * wanted:.0f} were wanted")
    print(f"report       {outcome.event['report']}")


if __name__ == "__main__":
    sys.exit(main())
