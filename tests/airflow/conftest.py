"""A local platform, in front of a tiny engine, for Dags to run against."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow_stack import migrate
from tests.support.demo import Tickets, first_tickets
from tests.support.module_platform import engine, shared_platform  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def unused_airflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy. The session's own knows other tests' Dags, and holds them paused."""
    home = tmp_path_factory.mktemp("unused_airflow")
    file = home / "airflow.db"
    location = {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{file}"}
    migrate(os.environ | location)
    return file


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    """The rows that the demo takes, in a folder of the test's own."""
    return first_tickets(tmp_path)
