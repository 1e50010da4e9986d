"""An Airflow home of the test session's own, set up before anything imports Airflow."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, however busy the machine is.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

_FOREIGN = ("AIRFLOW_", "LAMINI_", "LLAMA_")
"""Settings of the person who runs the tests: none of them may reach a test."""

for _name in [name for name in os.environ if name.startswith(_FOREIGN)]:
    del os.environ[_name]

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
    AIRFLOW__CORE__PARALLELISM="4",
    AIRFLOW__CORE__TEST_CONNECTION="Enabled",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{AIRFLOW_HOME / 'airflow.db'}",
    AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY="True",  # Airflow 2.11 warns of its own default
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(AIRFLOW_HOME / "logs"),
)
(AIRFLOW_HOME / "dags").mkdir()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that train where torch is not installed."""
    if importlib.util.find_spec("torch") is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("torch")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_unconfigure() -> None:
    """Remove the session's Airflow home."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The session's ``AIRFLOW_HOME``; its ``dags`` folder is Airflow's."""
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path) -> Path:
    """The session's Airflow database, migrated once. Returns the SQLite file."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return airflow_home / "airflow.db"
