"""The demo: run an example Dag against the local platform and print the results. Started by ``make demo``."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

from dags_examples.demo.stage import (
    DAGS,
    DemoError,
    airflow_environment,
    fetch_models,
    local_platform,
    run_dag,
    say,
)

TICKETS = DAGS / "data" / "support_tickets.jsonl"
DAG_ID = "nightly_batch_inference"
MEANING = {
    "payment": "billing",
    "login": "login",
    "delivery": "shipping",
    "broken": "defect",
    "wish": "feature request",
}
"""Maps the words that the model can choose from to the categories in the tickets."""
PRINTED_LINES = ("rows", "DEFERRED", "Attached", "failed")
"""Log lines that contain one of these are printed."""
SHOWN_ROWS = 12


def main() -> int:
    """Run the demo once.

    :return: the exit code: 0 if every row has an output
    """
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        fetch_models()
        say(f"2. {arguments.rows} support tickets")
        tickets = _first_rows(arguments.rows, folder / "tickets.jsonl")
        say("3. Starting the local platform")
        with local_platform(folder) as connection:
            environment = airflow_environment(folder, connection)
            say(f"4. Running the Dag {DAG_ID} in deferrable mode")
            dag_started = time.monotonic()
            output = _run_dag(folder, environment, tickets)
            dag_seconds = time.monotonic() - dag_started
        _report(output, arguments.rows, dag_seconds, time.monotonic() - started)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60, help="number of tickets to use (default 60)")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="folder for all output")
    arguments = parser.parse_args()
    available = len(TICKETS.read_text(encoding="utf-8").splitlines())
    if not 1 <= arguments.rows <= available:
        parser.error(f"--rows must be between 1 and {available}, not {arguments.rows}")
    return arguments


def _first_rows(count: int, target: Path) -> Path:
    with TICKETS.open(encoding="utf-8") as tickets:
        target.write_text("".join(itertools.islice(tickets, count)), encoding="utf-8")
    print(f"   {target}")
    return target


def _run_dag(folder: Path, environment: dict[str, str], tickets: Path) -> Path:
    """Run the Dag and return the run's output folder."""
    output = folder / "output" / time.strftime("%Y%m%d-%H%M%S")
    log = folder / "dag.log"
    run_dag(DAG_ID, {"input": str(tickets), "output": str(output)}, environment, log, PRINTED_LINES)
    manifests = list(output.glob("*/manifest.json"))
    if len(manifests) != 1:
        raise DemoError(f"expected one manifest under {output}, found {len(manifests)}; the Dag's log: {log}")
    return manifests[0].parent


def _report(output: Path, expected: int, dag_seconds: float, all_seconds: float) -> None:
    from airflow_provider_lamini.results import read_outputs
    from airflow_provider_lamini.rows.output.manifest import read_manifest
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

    folder = OutputFolder(str(output))
    manifest = read_manifest(folder)
    rows = list(read_outputs(str(output)))
    print(f"\n{'ticket':<9}{'subject':<46}{'expected':<17}model's answer")
    for row in rows[:SHOWN_ROWS]:
        answer = MEANING[row["output"]["category"]] if row["output"] else f"failed: {row['error']}"
        print(f"{row['ticket_id']:<9}{row['subject'][:44]:<46}{row['expected_category'] or '-':<17}{answer}")
    print(f"... {len(rows)} rows in total\n")
    labelled = [row for row in rows if row["expected_category"] and row["output"]]
    correct = sum(MEANING[row["output"]["category"]] == row["expected_category"] for row in labelled)
    share = f"{correct / max(1, len(labelled)):.0%}"
    counts = manifest.counts
    speed = counts.rows / max(manifest.seconds, 0.001)
    print(f"rows       {counts.rows} read, {counts.ok} answered, {counts.failed} failed")
    print(f"correct    {correct} of {len(labelled)} labelled rows ({share}; guessing would give 20%)")
    print(
        f"time       {manifest.seconds:.0f} s for the rows ({speed:.1f} rows/s), {dag_seconds:.0f} s for the Dag run,"
    )
    print(f"           {all_seconds:.0f} s in total")
    print(f"files      {output}")
    if len(rows) != expected or counts.failed:
        raise DemoError(f"{expected} input rows, {len(rows)} output rows, {counts.failed} of them failed")


if __name__ == "__main__":
    sys.exit(main())
