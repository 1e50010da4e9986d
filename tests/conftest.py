"""A temporary Airflow home for the test session, set up before any import of Airflow."""

from __future__ import annotations

import fcntl
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from types import FrameType

# The same examples in each run, and no deadline, because the machine may be busy.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

gc.disable()  # until everything is imported: nothing of it is garbage

# The developer's settings must not change the outcome of a test.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "LAMINI_", "LLAMA_"))]:
    del os.environ[_name]

for _home in Path(tempfile.gettempdir()).glob("airflow-home-*-*"):
    if not psutil.pid_exists(int(_home.name.split("-")[2])):  # its session was killed
        shutil.rmtree(_home, ignore_errors=True)
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix=f"airflow-home-{os.getpid()}-"))
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
    AIRFLOW__CORE__PARALLELISM="4",
    AIRFLOW__CORE__TEST_CONNECTION="Enabled",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{AIRFLOW_HOME / 'airflow.db'}",
    AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY="True",  # Airflow 2.11 warns about its own default
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(AIRFLOW_HOME / "logs"),
    # Tests of deferral do not wait for it. No scheduler runs here that could be too slow.
    AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER="0",
    AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS="0",
)
(AIRFLOW_HOME / "dags").mkdir()

WARNINGS_OF_AIRFLOW = {
    "3.0": ("ignore:'HTTP_422_UNPROCESSABLE_ENTITY' is deprecated:DeprecationWarning",),
    "3.1": ("ignore:'HTTP_422_UNPROCESSABLE_ENTITY' is deprecated:DeprecationWarning",),
    "3.2": ("ignore:SelectableGroups dict interface is deprecated:DeprecationWarning",),
    "3.3": ("ignore:FileType is deprecated:PendingDeprecationWarning",),  # Python 3.14 warns of it
    "3.4": ("ignore:FileType is deprecated:PendingDeprecationWarning",),
}
"""Filters of warnings that Airflow's own code or a package that it loads causes, by the first two numbers of its version."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start one more worker than there are CPUs, because tests spend half of their time waiting for platforms."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus + 1


def pytest_collection_finish() -> None:
    """Exempt what has been imported from garbage collection, which would walk all of it again and again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need torch if it is not installed."""
    if importlib.util.find_spec("torch") is not None:
        return
    deselected = [item for item in items if item.get_closest_marker("torch")]
    if deselected:
        items[:] = [item for item in items if item not in deselected]
        config.hook.pytest_deselected(items=deselected)


def pytest_configure(config: pytest.Config) -> None:
    """Ignore warnings of Airflow's own code. Let a session that is terminated run its teardowns, and those of its workers."""
    airflow = ".".join(importlib.metadata.version("apache-airflow").split(".")[:2])
    for ignored in WARNINGS_OF_AIRFLOW.get(airflow, ()):
        config.addinivalue_line("filterwarnings", ignored)
    if threading.current_thread() is not threading.main_thread():
        return
    unwind_on_sigterm()
    if getattr(config.option, "numprocesses", None):
        signal.signal(signal.SIGTERM, _end_workers)


def _end_workers(number: int, frame: FrameType | None) -> None:
    for worker in psutil.Process().children():
        worker.terminate()
    signal.default_int_handler(number, frame)


def pytest_unconfigure() -> None:
    """Delete the session's Airflow home."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The session's ``AIRFLOW_HOME``; its ``dags`` folder is Airflow's Dags folder."""
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of the session's Airflow database: a copy of the one that the first worker migrates."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    database, migrated = airflow_home / "airflow.db", common / "airflow.db"
    with (common / "airflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not migrated.exists():
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.copy(database, migrated)
        else:
            shutil.copy(migrated, database)
    return database
