"""One set of running Airflow components, a local platform and a tuning platform, shared by all tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import demo
from tests.support.airflow_stack import AirflowStack, airflow_stack
from tests.support.platforms import engine, shared_platform  # noqa: F401 - fixtures
from tests.support.tuning_platform import WELL, TuningPlatform, tuning_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.local_platform import LocalPlatform

DAGS = [
    demo.DAG_FILE,
    demo.EXAMPLES / "sharded_batch_inference.py",
    Path(__file__).parent / "dags" / "stack_dags.py",
    Path(__file__).parent / "dags" / "page_dags.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if item.nodeid.startswith("tests/stack/"):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
def shared_tuning() -> Iterator[TuningPlatform]:
    """The tuning platform, in the state that the previous test left."""
    with tuning_platform() as platform:
        yield platform


@pytest.fixture(scope="session")
def airflow(
    shared_platform: LocalPlatform,  # noqa: F811
    shared_tuning: TuningPlatform,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    """Airflow's components with one worker slot. A test that stops one must start it again."""
    lamini = {
        "conn_type": "lamini",
        "host": shared_platform.url,
        "password": shared_platform.key,
        "extra": {"headers": {"X-Tenant-Auth": "Basic a-header-for-tests-4711"}},
    }
    tuning = {"conn_type": "lamini", "host": shared_tuning.url, "password": shared_tuning.key}
    env = {
        "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(lamini),
        "AIRFLOW_CONN_TUNING": json.dumps(tuning),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }
    home = tmp_path_factory.mktemp("stack") / "airflow"
    with airflow_stack(home, DAGS, env, parallelism=1) as stack:
        yield stack


@pytest.fixture
def platform(shared_platform: LocalPlatform) -> Iterator[LocalPlatform]:  # noqa: F811
    """The local platform without faults, holds and jobs of earlier tests."""
    shared_platform.control.reset()
    yield shared_platform
    shared_platform.control.release()


@pytest.fixture
def tuning(shared_tuning: TuningPlatform) -> TuningPlatform:
    """The tuning platform without jobs of earlier tests; new jobs succeed."""
    shared_tuning.jobs.clear()
    shared_tuning.script = [WELL]
    return shared_tuning
