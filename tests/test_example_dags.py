"""The example Dags, parsed and run by Airflow itself, on every supported version of Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import demo
from tests.support.platforms import engine, shared_platform  # noqa: F401 - fixtures
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("airflow_db")]

PARSE = """
import pathlib, runpy, sys
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    print(file.name, flush=True)
    for name, value in runpy.run_path(str(file)).items():
        if type(value).__name__.startswith("Lamini"):
            assert value.retries, f"{name} has no retries"
"""


def run(*arguments: str, **env: str) -> str:
    """Run Python with the example Dags as Dags folder; return stdout and stderr."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(demo.EXAMPLES), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    timeout = threading.Timer(150, process.kill)
    timeout.start()
    output = []
    with process:
        for line in process.stdout:
            output.append(line)
            if (
                "up_for_retry" in line.lower()
            ):  # the retry is minutes away, and the error is already in the output
                process.kill()
    timeout.cancel()
    assert process.returncode == 0, "".join(output)
    return "".join(output)


def test_all_examples_can_be_parsed():
    assert run("-c", PARSE, str(demo.EXAMPLES)).count(".py\n") == len(list(demo.EXAMPLES.glob("*.py"))) > 5


def test_the_demo_runs_with_deferral(
    shared_platform: LocalPlatform,  # noqa: F811
    tmp_path: Path,
    airflow_db: Path,
):
    tickets = demo.first_tickets(tmp_path)
    connection = {"conn_type": "lamini", "host": shared_platform.url, "password": shared_platform.key}
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}

    output = run(
        *("-m", "airflow", "dags", "test", demo.DAG_ID, "--conf", json.dumps(conf)),
        AIRFLOW_CONN_LAMINI_DEFAULT=json.dumps(connection),
    )

    assert "deferr" in output.lower()
    assert shared_platform.key not in output
    database = b"".join(file.read_bytes() for file in airflow_db.parent.glob("airflow.db*"))
    assert demo.DAG_ID.encode() in database
    assert not [text for text in (shared_platform.key, *tickets.texts) if text.encode() in database]
    (manifest,) = tickets.output.glob("*/manifest.json")
    demo.assert_every_row_once(json.loads(manifest.read_text()), tickets)
    assert len(shared_platform.control.jobs()) == demo.CHUNKS
