"""The tuning demo: tune the local model on 50 tickets, and let the fine-tuning Dag decide whether that helped.

Started by ``make demo-tuning``.
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
PRINTED_LINES = ("Tuning job", "step ", "exact_match", "report on", "DEFERRED")
"""Log lines that contain one of these are printed."""
HELD_OUT = 100
"""Number of held-out tickets."""
MIN_GAIN = 0.2
"""Required gain in the fraction of correct held-out tickets; the Dag's own default."""
MIN_GAIN_SUBSET = 0.1
"""Required gain on a subset of the held-out tickets: on 40 tickets chance moves a gain by 10 points, on 100 by 6."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a Dag run.

    :param job: the tuning job, with its history
    :param seconds: duration of the tuning job
    :param scores: one row per held-out ticket
    :param event: the event of the model's asset; None if nothing was promoted
    """

    job: TrainJob
    seconds: float
    scores: list[dict[str, Any]]
    event: dict[str, Any] | None

    def share(self, role: str) -> float:
        """Return the fraction of tickets that a model classified correctly.

        :param role: ``model`` or ``base``
        """
        correct: float = sum(row[role]["exact_match"] for row in self.scores)
        return correct / len(self.scores)


def main() -> int:
    """Run the demo once.

    :return: the exit code: 0 if the model gained enough and was promoted
    """
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        fetch_models()
        say("2. Starting the local platform")
        with local_platform(folder) as connection:
            environment = airflow_environment(folder, connection)
            data = _tickets(folder, arguments.held_out)
            say(
                f"3. Running the Dag {DAG_ID}: {arguments.steps} steps on 50 tickets, {arguments.held_out} held-out tickets"
            )
            dag_started = time.monotonic()
            min_gain = MIN_GAIN if arguments.held_out == HELD_OUT else MIN_GAIN_SUBSET
            conf = {"data": str(data), "max_steps": arguments.steps, "gain": min_gain}
            outcome = _run(folder, environment, connection, conf)
            _report(outcome, min_gain, time.monotonic() - dag_started, time.monotonic() - started)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=20, help="training steps of ten tickets each (default 20)"
    )
    parser.add_argument(
        "--held-out", type=int, default=HELD_OUT, help="number of held-out tickets to classify (default 100)"
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo/tuning"), help="folder for all output")
    arguments = parser.parse_args()
    if not 1 <= arguments.held_out <= HELD_OUT:
        parser.error(f"--held-out must be between 1 and {HELD_OUT}, not {arguments.held_out}")
    return arguments


def _lines(name: str) -> list[str]:
    return (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def _tickets(folder: Path, held_out: int) -> Path:
    """Write the training tickets and the first held-out tickets to a folder, and return it."""
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
    run_dag(DAG_ID, conf | {"output": str(output)}, environment, log, PRINTED_LINES)
    found = list(output.glob("*/scores.jsonl"))
    if len(found) != 1:
        raise DemoError(f"expected one evaluation under {output}, found {len(found)}; the Dag's log: {log}")
    scores = [json.loads(line) for line in found[0].read_text(encoding="utf-8").splitlines()]
    events = _events(folder)
    job = _tuning_job(connection)
    durations = re.findall(
        rf"tuning job {job.job_id} succeeded after ([\d.]+) s", (folder / "platform.log").read_text()
    )
    if not durations:
        raise DemoError(f"the platform's log does not say that tuning job {job.job_id} succeeded")
    event = events[-1] if len(events) > len(before) else None
    return Outcome(job, float(durations[-1]), scores, event)


def _events(folder: Path) -> list[dict[str, Any]]:
    """Return Airflow's asset events for the promoted models, oldest first."""
    with closing(sqlite3.connect(folder / "airflow" / "airflow.db")) as database:
        found = database.execute(
            "SELECT extra FROM asset_event WHERE source_dag_id = ? ORDER BY id", (DAG_ID,)
        )
        return [json.loads(extra) for (extra,) in found]


def _tuning_job(connection: str) -> TrainJob:
    """Return the platform's most recent tuning job."""
    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.lamini.api import training

    fields = json.loads(connection)
    with Client(ClientSettings(base_url=fields["host"], key=fields["password"])) as client:
        return client.send(training.list_jobs())[-1]


def _report(outcome: Outcome, min_gain: float, dag_seconds: float, all_seconds: float) -> None:
    base, tuned = outcome.share("base"), outcome.share("model")
    steps = outcome.job.steps()
    first, last = steps[0], steps[-1]
    rows = len(outcome.scores)
    print(f"\nbase model   {base:.0%} of {rows} held-out tickets correct (guessing would give 20%)")
    print(f"tuned model  {tuned:.0%}: {100 * (tuned - base):+.0f} points")
    print(
        f"tuning       {last.step} steps in {outcome.seconds:.0f} s, loss from {first.loss:.2f} to {last.loss:.2f}"
    )
    print(f"time         {dag_seconds:.0f} s for the Dag run, {all_seconds:.0f} s in total")
    if outcome.event is None:
        points = f"{100 * (tuned - base):.0f} points, but {100 * min_gain:.0f} are required"
        raise DemoError(f"nothing was promoted: the gain is {points}")
    gain = outcome.event["metrics"]["gain"]["exact_match"]
    print(f"promoted     {outcome.event['model_name']}")
    print(f"             for its gain of {100 * gain:.0f} points (required: {100 * min_gain:.0f})")
    print(f"report       {outcome.event['report']}")


if __name__ == "__main__":
    sys.exit(main())
