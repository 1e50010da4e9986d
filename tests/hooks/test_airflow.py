"""Connections in Airflow's database, through Airflow's own commands."""

from __future__ import annotations

import json

import pytest

from tests.support.airflow_command import airflow

KEY = "lamini-test-key-0123456789"

LOOKUP = """
import json
from datetime import datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lamini.hooks.lamini import LaminiHook


class LookupTrigger(BaseTrigger):
    def serialize(self):
        return "lookup_dag.LookupTrigger", {}

    async def run(self):
        settings = await LaminiHook("from_database").asettings()
        yield TriggerEvent({"base_url": settings.base_url, "read_timeout": settings.read_timeout})


class LookupOperator(BaseOperator):
    def execute(self, context):
        self.defer(trigger=LookupTrigger(), method_name="done")

    def done(self, context, event=None):
        settings = LaminiHook("from_database").settings()
        found = {**event, "agree": settings.base_url == event["base_url"]}
        Path(__file__).with_name("found.json").write_text(json.dumps(found))


with DAG("lamini_lookup", start_date=datetime(2026, 1, 1), schedule=None):
    LookupOperator(task_id="lookup")
"""


@pytest.fixture
def added(airflow_db):
    """Adds a connection to Airflow's database for the time of a test."""
    assert airflow_db.exists()
    names = []

    def add(conn_id, **fields):
        names.append(conn_id)
        airflow("connections", "add", conn_id, "--conn-json", json.dumps({"conn_type": "lamini", **fields}))

    yield add
    for name in names:
        airflow("connections", "delete", name)


@pytest.mark.slow
def test_the_command_line_tests_a_connection_in_the_database(added, platform):
    added("good", host="127.0.0.1", schema="http", port=platform.port, password=KEY)
    assert "Connection success!" in airflow("connections", "test", "good")
    assert [path for path, _ in platform.seen] == ["/v1alpha/downloaded_models/"]


@pytest.mark.slow
def test_a_trigger_finds_a_connection_in_the_database_in_a_dag_test(added, airflow_home):
    """The asynchronous look-up of Airflow 3 fails there; the hook falls back to the synchronous one."""
    added("from_database", host="https://lamini.example.com/llm", password=KEY, extra='{"read_timeout": "7"}')
    dags = airflow_home / "dags"
    (dags / "lookup_dag.py").write_text(LOOKUP)
    try:
        airflow("dags", "test", "lamini_lookup")
        found = json.loads((dags / "found.json").read_text())
    finally:
        (dags / "lookup_dag.py").unlink()
        (dags / "found.json").unlink(missing_ok=True)
    assert found == {"base_url": "https://lamini.example.com/llm", "read_timeout": 7.0, "agree": True}
