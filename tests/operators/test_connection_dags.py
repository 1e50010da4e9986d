"""A connection of Airflow's database, as a Dag's trigger finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.models.connection import Connection
from airflow.utils.session import create_session

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = Path(__file__).with_name("lookup_dags.py")


@pytest.fixture
def connection():
    fields = {"host": "https://lamini.example.com/llm", "password": "k", "extra": '{"read_timeout": "7"}'}
    found = Connection("from_database", "lamini", **fields)
    with create_session() as session:
        session.add(found)
    yield
    with create_session() as session:
        session.delete(session.merge(found))


@pytest.mark.usefixtures("connection")
def test_a_trigger_finds_a_connection_of_the_database_in_a_dag_test(load_dags, airflow_home, monkeypatch):
    """Airflow 3 cannot look up connections asynchronously there, so the hook falls back to the synchronous lookup."""
    monkeypatch.syspath_prepend(airflow_home / "dags")
    ended = load_dags(FILE)["dag"].test()
    (ti,) = ended.get_task_instances()
    assert str(ti.state) == "success"
    assert ti.xcom_pull("lookup") == {
        "base_url": "https://lamini.example.com/llm",
        "read_timeout": 7.0,
        "agree": True,
    }
