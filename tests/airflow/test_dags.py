"""The example Dags in Airflow's own hands: parsed, and run with ``airflow dags test``. On every line of Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import demo
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.demo import Tickets
    from tests.support.local_platform import LocalPlatform

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("airflow_db")]


def run(*arguments: str, **environment: str) -> str:
    """Run Python, with the example Dags as Airflow's; returns what it said, on both outputs."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(demo.EXAMPLES), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(150, process.kill)
    watchdog.start()
    said = []
    with process:
        for line in process.stdout:
            said.append(line)
            if "up_for_retry" in line.lower():  # minutes from now; what failed has been said
                process.kill()
    watchdog.cancel()
    assert process.returncode == 0, "".join(said)
    return "".join(said)


@pytest.mark.parametrize("file", sorted(demo.EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_read_without_an_error(file: Path):
    run(str(file))


def test_the_demo_runs_with_deferral(shared_platform: LocalPlatform, tickets: Tickets, airflow_db: Path):
    connection = {"conn_type": "lamini", "host": shared_platform.url, "password": shared_platform.key}
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}

    said = run(
        *("-m", "airflow", "dags", "test", demo.DAG_ID, "--conf", json.dumps(conf)),
        AIRFLOW_CONN_LAMINI_DEFAULT=json.dumps(connection),
    )

    assert "deferr" in said.lower()
    assert shared_platform.key not in said
    left = b"".join(file.read_bytes() for file in airflow_db.parent.glob("airflow.db*"))
    assert demo.DAG_ID.encode() in left
    assert not [each for each in (shared_platform.key, *tickets.texts) if each.encode() in left]
    (manifest,) = tickets.output.glob("*/manifest.json")
    demo.assert_every_row_once(json.loads(manifest.read_text()), tickets)
    assert len(shared_platform.control.jobs()) == demo.CHUNKS
