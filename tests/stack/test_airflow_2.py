"""A task that waits under the real scheduler and triggerer of Airflow 2; the other files here need Airflow 3."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.airflow_stack import BASE_COMPONENTS, TRIGGERER, airflow_stack
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from tests.support.local_platform import LocalPlatform

pytestmark = pytest.mark.skipif(find_spec("airflow.sdk") is not None, reason="for Airflow 2")

COMPONENTS = {"scheduler": BASE_COMPONENTS["scheduler"], "triggerer": TRIGGERER}
"""The scheduler parses Dags itself, and nothing here needs a web server."""


def states(home: Path, table: str) -> list[str]:
    """The states of Airflow's Dag runs or task instances, in its database."""
    with closing(sqlite3.connect(home / "airflow.db", timeout=30)) as database:
        return [state for (state,) in database.execute(f"SELECT state FROM {table}")]


def test_a_task_defers_and_is_resumed_by_the_triggerer(platform: LocalPlatform, tmp_path: Path):
    home, output = tmp_path / "airflow", tmp_path / "output"
    connection = {"conn_type": "lamini", "host": platform.url, "password": platform.key}
    env = {
        "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",  # the only one beside SQLite there
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it runs the command airflow
        "MODEL": TEXT_MODEL,
        "OUTPUT": str(output),
    }
    platform.control.hold()
    dags = Path(__file__).parent / "dags" / "airflow_2_dags.py"
    with airflow_stack(home, [dags], env, components=COMPONENTS) as airflow:
        airflow.until("a deferred task", 180, lambda: states(home, "task_instance") == ["deferred"])
        platform.control.release()
        airflow.until("the end of the run", 90, lambda: states(home, "dag_run") == ["success"])
    rows = list(read_outputs(str(output)))
    assert [(row["index"], bool(row["output"])) for row in rows] == [(0, True), (1, True), (2, True)]
    assert len(platform.control.jobs()) == 1
