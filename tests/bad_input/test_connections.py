"""A broken connection raises one error that names it and the field; nothing is sent."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.hooks.connection import InvalidConnectionError
from tests.bad_input.world import VALID_ARGUMENTS, conn_type_of, connection

KEY = "a-key-that-nobody-may-see"

BROKEN = {
    "no key": ({"password": ""}, "password"),
    "a blank key": ({"password": "  "}, "password"),
    "a key with a line break": ({"password": f"{KEY}\n{KEY}"}, "key"),
    "no host": ({"host": ""}, "Platform URL (host)"),
    "a host that is no URL": ({"host": "http://[half"}, "Platform URL (host)"),
    "a host of another scheme": ({"host": "ftp://platform"}, "http"),
    "a key in the host": ({"host": f"http://user:{KEY}@platform"}, "user name"),
    "a timeout that is not a number": ({"extra": {"read_timeout": "long"}}, "read_timeout"),
    "a timeout that is NaN": ({"extra": {"read_timeout": float("nan")}}, "read_timeout"),
    "a flag that is none": ({"extra": {"verify": "perhaps"}}, "verify"),
    "headers that are none": ({"extra": {"headers": [KEY]}}, "headers"),
    "half a connection": ({"extra": {"max_connections": 0.5}}, "max_connections"),
}


OPERATORS = list(VALID_ARGUMENTS)
ALL_CONNECTIONS = ("BatchInferenceOperator", "TrainOperator", "JobSensor")
"""The operators that are tested with every broken connection. Each of the others is tested with one."""


def cases():
    """Yield pairs of a defect and an operator."""
    for number, defect in enumerate(BROKEN):
        for index, operator in enumerate(OPERATORS):
            if operator in ALL_CONNECTIONS or index % len(BROKEN) == number:
                yield defect, operator


@pytest.mark.parametrize(("defect", "operator"), list(cases()))
def test_the_error_names_a_broken_connection(world, monkeypatch, operator, defect):
    fields, text = BROKEN[defect]
    name = conn_type_of(operator)
    broken = connection(world.platform.url, **{"conn_type": name, "password": KEY, **fields})
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", broken)
    world.note_files()
    with pytest.raises(InvalidConnectionError) as caught:
        world.run(operator, {})
    message = str(caught.value)
    assert message.startswith(f"Connection '{name}_default': ")
    assert text in message
    assert KEY not in message
    assert world.request_counts == {}
    assert world.files() == world.files_before


@pytest.mark.parametrize("extra", ["{half", "[1]"])
@pytest.mark.parametrize("operator", ALL_CONNECTIONS)
def test_the_error_names_a_connection_with_a_broken_extra(world, monkeypatch, operator, extra):
    """Airflow 2.11 parses the extra itself, and then reports that the connection does not exist."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    monkeypatch.setenv(
        "AIRFLOW_CONN_LAMINI_DEFAULT", connection(world.platform.url, password=KEY, extra=extra)
    )
    world.note_files()
    with pytest.raises((InvalidConnectionError, AirflowNotFoundException)) as caught:
        world.run(operator, {})
    assert "lamini_default" in str(caught.value)
    assert "Extra" in str(caught.value) or isinstance(caught.value, AirflowNotFoundException)
    assert KEY not in str(caught.value)
    assert world.request_counts == {}
    assert world.files() == world.files_before


@pytest.mark.parametrize("operator", VALID_ARGUMENTS)
def test_the_error_names_a_missing_connection(world, operator):
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    world.note_files()
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        world.run(operator, {f"{conn_type_of(operator)}_conn_id": "nowhere"})
    assert world.request_counts == {}
    assert world.files() == world.files_before


def test_the_error_names_a_hub_connection_without_a_token(world, monkeypatch):
    from airflow_provider_lamini.exceptions import InvalidArgumentError

    monkeypatch.setenv("AIRFLOW_CONN_HUB", '{"conn_type": "http"}')
    world.note_files()
    with pytest.raises(InvalidArgumentError, match="'hub' has no password"):
        world.run("DownloadModelOperator", {"hub_conn_id": "hub"})
    assert world.request_counts == {}
