"""The Emissary demo: train the local model on 50 tickets through the Emissary API, deploy the best checkpoint, use it.

Started by ``make demo-emissary``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
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
    from airflow_provider_lamini.platforms.emissary.api.checkpoints import TrainingJobCheckpoint
    from airflow_provider_lamini.platforms.emissary.api.training import TrainingJobDetail

DAG_ID = "emissary_fine_tuning"
PROJECT = "support-tickets"
PRINTED_LINES = ("Submitted", "training job", "checkpoint", "deployment", "rows", "DEFERRED")
"""Log lines that contain one of these are printed."""
HELD_OUT = 100
"""Number of held-out tickets."""
GUESSING = 0.2
"""The fraction of tickets that guessing gets right."""


def main() -> int:
    """Run the demo once.

    :return: the exit code: 0 if the best checkpoint has answered every ticket, and its deployment is gone
    """
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        fetch_models()
        say("2. Starting the local platform")
        with local_platform(folder) as connection:
            emissary = _emissary_connection(connection)
            environment = airflow_environment(folder, connection)
            environment["AIRFLOW_CONN_EMISSARY_DEFAULT"] = json.dumps(emissary)
            data = _tickets(folder, arguments.held_out)
            say(
                f"3. Running the Dag {DAG_ID}: {arguments.epochs} epochs, {arguments.held_out} held-out tickets"
            )
            dag_started = time.monotonic()
            output = folder / "output" / time.strftime("%Y%m%d-%H%M%S")
            conf = {"data": str(data), "output": str(output), "epochs": arguments.epochs, "project": PROJECT}
            run_dag(DAG_ID, conf, environment, folder / "dag.log", PRINTED_LINES)
            _report(emissary, output, arguments.held_out)
        print(f"time         {time.monotonic() - dag_started:.0f} s for the Dag run, ", end="")
        print(f"{time.monotonic() - started:.0f} s in total")
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4, help="passes over 40 tickets (default 4)")
    parser.add_argument(
        "--held-out", type=int, default=HELD_OUT, help="number of held-out tickets to answer (default 100)"
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo/emissary"), help="folder for all output")
    arguments = parser.parse_args()
    if not 1 <= arguments.held_out <= HELD_OUT:
        parser.error(f"--held-out must be between 1 and {HELD_OUT}, not {arguments.held_out}")
    return arguments


def _emissary_connection(connection: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(connection)
    return {**fields, "conn_type": "emissary", "host": f"{fields['host']}/emissary"}


def _tickets(folder: Path, held_out: int) -> Path:
    """Write the training tickets and the first held-out tickets to a folder, and return it."""
    data = folder / "tickets"
    data.mkdir(exist_ok=True)
    for name, count in (("tickets_examples", None), ("tickets_held_out", held_out)):
        lines = (DAGS / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (data / f"{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    return data


def _report(emissary: dict[str, Any], output: Path, expected: int) -> None:
    from airflow_provider_lamini.results import read_outputs

    job, checkpoints, deployments = _on_the_platform(emissary)
    losses = [point.loss for point in job.training_loss]
    print(f"\ntraining     {len(losses)} steps, loss from {losses[0]:.2f} to {losses[-1]:.2f}")
    for checkpoint in checkpoints:
        results = checkpoint.test_results.aggregated_test_result if checkpoint.test_results else {}
        print(f"checkpoint {checkpoint.checkpoint} {dict(results)} on the tickets held out from training")
    found = list(output.glob("*/answers"))
    if len(found) != 1:
        raise DemoError(f"expected one folder of answers under {output}, found {len(found)}")
    rows = list(read_outputs(str(found[0])))
    right = sum(str(row["output"]).strip() == row["category"] for row in rows)
    print(
        f"answers      {right} of {len(rows)} tickets right (guessing would give {GUESSING:.0%}), {found[0]}"
    )
    print(f"deployments  {deployments} left")
    if len(rows) != expected or any(row["error"] for row in rows) or deployments:
        raise DemoError(f"{expected} tickets, {len(rows)} answers, {deployments} deployments left")
    if right <= GUESSING * len(rows):
        raise DemoError("the trained model is no better than guessing")


def _on_the_platform(
    emissary: dict[str, Any],
) -> tuple[TrainingJobDetail, list[TrainingJobCheckpoint], int]:
    """Return the newest training job, its checkpoints, and how many deployments there are."""
    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.emissary.api import checkpoints, deployments, projects, training
    from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT

    settings = ClientSettings(base_url=emissary["host"], key=emissary["password"], dialect=EMISSARY_DIALECT)
    with Client(settings) as client:
        project = next(item.id for item in client.send(projects.list_all()) if item.name == PROJECT)
        job = client.send(training.list_jobs(project))[-1].id
        return (
            client.send(training.job(project, job)),
            client.send(checkpoints.list_all(project, job)),
            len(client.send(deployments.list_all(project))),
        )


if __name__ == "__main__":
    sys.exit(main())
