"""Airflow's command line: the provider's metadata, and connections in Airflow's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.airflow_stack import AirflowStack
    from tests.support.local_platform import LocalPlatform


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
