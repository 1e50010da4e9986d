"""What the demos share: the local platform, Airflow's environment, and a Dag run whose log lies in a file.

Everything that they write lies in one folder, ``.demo`` by default; what they start, they stop.
"""

from __future__ import annotations

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
    from collections.abc import Iterator, Mapping

DAGS = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SHOWN = re.compile(
    r"\] (.*?)\s+\[(?:airflow_provider_lamini|airflow\.task\.operators\.airflow_provider_lamini|task)\b"
)
START_SECONDS = 120
LONGEST_DAG_SECONDS = 1800


class DemoError(Exception):
    """Something in the demo failed; the message says what and where to read on."""


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def fetch_models() -> None:
    """Fetch the local platform's models, unless they are there."""
    say("1. Models for the local platform (fetched once)")
    run([BIN / "lamini-local", "pull"], "fetching the models")


def run(command: list[Path | str], doing: str, **options: Any) -> None:
    """Run a command to its end.

    :param doing: what it does, for the message
    :raises DemoError: it failed
    """
    if subprocess.run([str(part) for part in command], check=False, **options).returncode:
        raise DemoError(f"{doing} failed; what it printed is above")


@contextmanager
def local_platform(folder: Path) -> Iterator[str]:
    """The local platform on a free port.

    :param folder: where it keeps its data and its log
    :return: the connection to it, as Airflow reads it from the environment
    """
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


def airflow_environment(folder: Path, connection: str) -> dict[str, str]:
    """The environment of an Airflow of the demo's own, with a database that is ready.

    :param folder: where its home is
    :param connection: ``lamini_default``
    """
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
        run(
            [BIN / "airflow", "db", "migrate"],
            f"setting up Airflow's database (log: {log.name})",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return environment


def run_dag(
    dag_id: str, conf: Mapping[str, object], environment: dict[str, str], log: Path, told: tuple[str, ...]
) -> None:
    """Run a Dag in a process of its own, with deferral.

    :param dag_id: the Dag
    :param conf: its params
    :param environment: see :func:`airflow_environment`
    :param log: the file for its log
    :param told: lines of the log that hold one of these are printed
    :raises DemoError: it failed, took too long, or was not deferred
    """
    with log.open("w") as file:
        dag = subprocess.Popen(
            [str(BIN / "airflow"), "dags", "test", dag_id, "--conf", json.dumps(conf)],
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
            if said and any(word in said[1] for word in told):
                print(f"   {said[1]}", flush=True)
    code = dag.wait()
    timer.cancel()
    if code:
        raise DemoError(
            f"the Dag run failed, or took over {LONGEST_DAG_SECONDS / 60:.0f} minutes; its log: {log}"
        )
    if "deferr" not in log.read_text().lower():
        raise DemoError(f"the task was not deferred; its log: {log}")
