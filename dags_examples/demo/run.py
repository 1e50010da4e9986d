"""The demo: the local platform, one of the example Dags, and a look at what came out.

Run by ``make demo``. Everything that it writes lies in one folder, ``.demo`` by default; what it starts, it
stops.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
DAGS = HERE.parent
TICKETS = DAGS / "data" / "support_tickets.jsonl"
DAG_ID = "nightly_batch_inference"
MEANING = {
    "payment": "billing",
    "login": "login",
    "delivery": "shipping",
    "broken": "defect",
    "wish": "feature request",
}
"""The words that the Dag lets the model choose from, and what people called it in the tickets."""
BIN = Path(sys.executable).parent
SHOWN = re.compile(
    r"\] (.*?)\s+\[(?:airflow_provider_lamini|airflow\.task\.operators\.airflow_provider_lamini|task)\b"
)
TOLD = ("rows", "DEFERRED", "Attached", "failed")
START_SECONDS = 120
SHOWN_ROWS = 12
LONGEST_DAG_SECONDS = 1800


class DemoError(Exception):
    """Something in the demo failed; the message says what and where to read on."""


def main() -> int:
    """Run the demo once.

    :return: the exit code: 0 if every row has an output
    """
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        _say("1. Models for the local platform (fetched once)")
        _run([BIN / "lamini-local", "pull"], "fetching the models")
        _say(f"2. {arguments.rows} support tickets")
        tickets = _first_rows(arguments.rows, folder / "tickets.jsonl")
        _say("3. The local platform")
        with _platform(folder) as connection:
            environment = _airflow(folder, connection)
            _say(f"4. The Dag {DAG_ID}, with deferral")
            ran = time.monotonic()
            output = _run_dag(folder, environment, tickets)
            ran = time.monotonic() - ran
        _report(output, arguments.rows, ran, time.monotonic() - began)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60, help="how many tickets to take (default 60)")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything is written")
    arguments = parser.parse_args()
    available = len(TICKETS.read_text(encoding="utf-8").splitlines())
    if not 1 <= arguments.rows <= available:
        parser.error(f"there are {available} tickets: take from 1 to {available}, not {arguments.rows}")
    return arguments


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _run(command: list[Path | str], doing: str, **options: Any) -> None:
    if subprocess.run([str(part) for part in command], check=False, **options).returncode:
        raise DemoError(f"{doing} failed; what it printed is above")


def _first_rows(count: int, target: Path) -> Path:
    with TICKETS.open(encoding="utf-8") as tickets:
        target.write_text("".join(itertools.islice(tickets, count)), encoding="utf-8")
    print(f"   {target}")
    return target


@contextmanager
def _platform(folder: Path) -> Iterator[str]:
    """The local platform on a free port; the connection to it as Airflow reads it from the environment."""
    key = secrets.token_urlsafe(16)
    log = folder / "platform.log"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [str(BIN / "lamini-local"), "serve", "--port", "0", "--data", str(folder / "platform")],
            env={**os.environ, "LAMINI_LOCAL_KEY": key},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            bufsize=1,
        )
    try:
        url = _ready(server, log)
        yield json.dumps({"conn_type": "lamini", "host": url, "password": key})
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _ready(server: subprocess.Popen[str], log: Path) -> str:
    assert server.stdout is not None  # noqa: S101 - it was asked for
    os.set_blocking(server.stdout.fileno(), False)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for word in (server.stdout.readline() or "").split():
            if word.startswith("http://"):
                print(f"   {word}, its log: {log}")
                return word
        time.sleep(0.1)
    raise DemoError(f"the local platform did not start; its log: {log}")


def _airflow(folder: Path, connection: str) -> dict[str, str]:
    home = folder / "airflow"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_LAMINI_DEFAULT": connection,
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "PYTHONWARNINGS": "ignore",
    }
    with (folder / "migrate.log").open("w") as log:
        _run(
            [BIN / "airflow", "db", "migrate"],
            f"setting up Airflow's database (log: {log.name})",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return environment


def _run_dag(folder: Path, environment: dict[str, str], tickets: Path) -> Path:
    """Run the Dag in a process of its own, its log in a file, and return the run's output folder."""
    output = folder / "output" / time.strftime("%Y%m%d-%H%M%S")
    conf = json.dumps({"input": str(tickets), "output": str(output)})
    log = folder / "dag.log"
    with log.open("w") as file:
        dag = subprocess.Popen(
            [str(BIN / "airflow"), "dags", "test", DAG_ID, "--conf", conf],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert dag.stdout is not None  # noqa: S101 - it was asked for
        timer = threading.Timer(LONGEST_DAG_SECONDS, dag.kill)
        timer.daemon = True
        timer.start()
        for line in dag.stdout:
            file.write(line)
            said = SHOWN.search(line)
            if said and any(word in said[1] for word in TOLD):
                print(f"   {said[1]}", flush=True)
    code = dag.wait()
    timer.cancel()
    if code:
        raise DemoError(
            f"the Dag run failed, or took over {LONGEST_DAG_SECONDS / 60:.0f} minutes; its log: {log}"
        )
    if "deferr" not in log.read_text().lower():
        raise DemoError(f"the task was not deferred; its log: {log}")
    manifests = list(output.glob("*/manifest.json"))
    if len(manifests) != 1:
        raise DemoError(f"{len(manifests)} manifests lie below {output}, not one; the Dag's log: {log}")
    return manifests[0].parent


def _report(output: Path, expected: int, dag_seconds: float, all_seconds: float) -> None:
    from airflow_provider_lamini.rows.folder import OutputFolder
    from airflow_provider_lamini.rows.manifest import read_manifest, read_outputs

    folder = OutputFolder(str(output))
    manifest = read_manifest(folder)
    rows = list(read_outputs(folder))
    print(f"\n{'ticket':<9}{'subject':<46}{'expected':<17}the model says")
    for row in rows[:SHOWN_ROWS]:
        said = MEANING[row["output"]["category"]] if row["output"] else f"failed: {row['error']}"
        print(f"{row['ticket_id']:<9}{row['subject'][:44]:<46}{row['expected_category'] or '-':<17}{said}")
    print(f"... {len(rows)} rows in all\n")
    labelled = [row for row in rows if row["expected_category"] and row["output"]]
    agree = sum(MEANING[row["output"]["category"]] == row["expected_category"] for row in labelled)
    share = f"{agree / max(1, len(labelled)):.0%}"
    counts = manifest.counts
    speed = counts.rows / max(manifest.seconds, 0.001)
    print(f"rows       {counts.rows} in, {counts.ok} answered, {counts.failed} failed")
    print(f"agreement  {agree} of {len(labelled)} labelled rows ({share}; a guess would be right in 20%)")
    print(
        f"time       {manifest.seconds:.0f} s for the rows ({speed:.1f} rows/s), {dag_seconds:.0f} s for the Dag run,"
    )
    print(f"           {all_seconds:.0f} s in all")
    print(f"files      {output}")
    if len(rows) != expected or counts.failed:
        raise DemoError(f"{expected} rows went in, {len(rows)} came out, {counts.failed} failed")


if __name__ == "__main__":
    sys.exit(main())
