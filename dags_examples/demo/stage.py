"""Shared parts of the demos: start the local platform, set up Airflow, and run a Dag with its log in a file.

The demos write everything to one folder, ``.demo`` by default, and stop everything that they start.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
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
LOG_MESSAGE = re.compile(
    r"\] (.*?)\s+\[(?:airflow_provider_lamini|airflow\.task\.operators\.airflow_provider_lamini|task)\b"
)
START_TIMEOUT_SECONDS = 120
DAG_TIMEOUT_SECONDS = 1800


class DemoError(Exception):
    """A step of the demo failed; the message says which one, and where its log is."""


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def fetch_models() -> None:
    """Download the local platform's models unless they are already there."""
    say("1. Models for the local platform (downloaded once)")
    run([BIN / "lamini-local", "pull"], "downloading the models")


def run(command: list[Path | str], action: str, **options: Any) -> None:
    """Run a command and wait for it.

    :param action: what it does, for the error message
    :raises DemoError: it failed
    """
    if subprocess.run([str(part) for part in command], check=False, **options).returncode:
        raise DemoError(f"{action} failed; see its output above")


@contextmanager
def local_platform(folder: Path) -> Iterator[str]:
    """Start the local platform on a free port, and stop it at the end.

    :param folder: folder for its data and its log
    :return: the connection to it, as JSON for an environment variable of Airflow
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
    assert server.stdout is not None  # noqa: S101 - stdout=PIPE
    os.set_blocking(server.stdout.fileno(), False)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for word in (server.stdout.readline() or "").split():
            if word.startswith("http://"):
                print(f"   {word}, log: {log}")
                return word
        time.sleep(0.1)
    raise DemoError(f"the local platform did not start; its log: {log}")


def airflow_environment(folder: Path, connection: str) -> dict[str, str]:
    """Create a separate Airflow home with a migrated database.

    :param folder: parent of the Airflow home
    :param connection: value of the connection ``lamini_default``
    :return: the environment variables for Airflow's commands
    """
    home = folder / "airflow"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_LAMINI_DEFAULT": connection,
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        # To show a deferral: otherwise jobs as short as these are waited for in the worker. No scheduler runs here.
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "0",
        "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": "0",
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
    dag_id: str,
    conf: Mapping[str, object],
    environment: dict[str, str],
    log: Path,
    printed_lines: tuple[str, ...],
) -> None:
    """Run a Dag in deferrable mode, in a separate process.

    :param dag_id: id of the Dag, and the name of its file
    :param conf: params of the run
    :param environment: environment variables from :func:`airflow_environment`
    :param log: file for the log
    :param printed_lines: log lines that contain one of these are printed
    :raises DemoError: it failed, took too long, or did not defer
    """
    # Alone in a folder, because Airflow reads and stores every Dag in the folder, twice.
    dags = Path(environment["AIRFLOW__CORE__DAGS_FOLDER"])
    dags.mkdir(exist_ok=True)
    shutil.copy(DAGS / f"{dag_id}.py", dags)
    with log.open("w") as file:
        dag = subprocess.Popen(
            [str(BIN / "airflow"), "dags", "test", dag_id, "--conf", json.dumps(conf)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert dag.stdout is not None  # noqa: S101 - stdout=PIPE
        timer = threading.Timer(DAG_TIMEOUT_SECONDS, dag.kill)
        timer.daemon = True
        timer.start()
        for line in dag.stdout:
            file.write(line)
            message = LOG_MESSAGE.search(line)
            if message and any(word in message[1] for word in printed_lines):
                print(f"   {message[1]}", flush=True)
    code = dag.wait()
    timer.cancel()
    if code:
        raise DemoError(
            f"the Dag run failed, or took more than {DAG_TIMEOUT_SECONDS / 60:.0f} minutes; its log: {log}"
        )
    if "deferr" not in log.read_text().lower():
        raise DemoError(f"the task did not defer; its log: {log}")
