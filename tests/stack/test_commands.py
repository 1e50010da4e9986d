"""Airflow's command line: the provider's metadata, and connections in Airflow's database."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.airflow_stack import AirflowStack
    from tests.support.local_platform import LocalPlatform

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
        result = {**event, "agree": settings.base_url == event["base_url"]}
        Path(__file__).with_name("found.json").write_text(json.dumps(result))


with DAG("lamini_lookup", start_date=datetime(2026, 1, 1), schedule=None):
    LookupOperator(task_id="lookup")
"""


def test_the_command_line_lists_the_hook_and_the_fields_of_its_form(airflow: AirflowStack):
    (line,) = [
        line
        for line in airflow.command("providers", "hooks", "-o", "plain").splitlines()
        if line.startswith("lamini ")
    ]
    assert "lamini_conn_id" in line
    assert "extra__lamini__connect_timeout" in airflow.command("providers", "widgets", "-o", "plain")


def test_the_command_line_tests_a_connection_of_the_database(airflow: AirflowStack, platform: LocalPlatform):
    airflow.add_connection("good", conn_type="lamini", host=platform.url, password=platform.key)
    assert "Connection success!" in airflow.command("connections", "test", "good")


def test_a_trigger_finds_a_connection_of_the_database_in_a_dag_test(airflow: AirflowStack, tmp_path: Path):
    """Airflow 3 cannot look up connections asynchronously there, so the hook falls back to the synchronous lookup.

    The test uses a copy of the database, so that the running scheduler leaves its Dag run alone.
    """
    fields = {"host": "https://lamini.example.com/llm", "password": "k", "extra": '{"read_timeout": "7"}'}
    airflow.add_connection("from_database", conn_type="lamini", **fields)
    home = tmp_path / "airflow"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "lookup_dag.py").write_text(LOOKUP)
    shutil.copy(airflow.home / "airflow.cfg", home)  # it has the key that encrypts connections
    with (
        closing(sqlite3.connect(airflow.home / "airflow.db")) as original,
        closing(sqlite3.connect(home / "airflow.db")) as copy,
    ):
        original.backup(copy)
    airflow.command(
        *("dags", "test", "lamini_lookup"),
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home / 'airflow.db'}",
    )
    found = json.loads((home / "dags" / "found.json").read_text())
    assert found == {"base_url": "https://lamini.example.com/llm", "read_timeout": 7.0, "agree": True}
