"""What Airflow reads about the provider."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_lamini
from airflow_provider_lamini.get_provider_info import get_provider_info
from tests.support.airflow_command import airflow as airflow_says

SCHEMAS = Path(airflow.__file__).parent


def test_the_metadata_fits_the_schema_of_this_airflow():
    schema = json.loads((SCHEMAS / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.skipif(find_spec("airflow.sdk") is None, reason="Airflow 2 knows no declarative form")
def test_the_connection_type_fits_the_stricter_schema_for_sources():
    """The schema of the metadata says nothing of forms; the one for Airflow's own providers does."""
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    types = schema["properties"]["connection-types"]
    jsonschema.validate(
        get_provider_info()["connection-types"], {**types, "definitions": schema.get("definitions")}
    )


def test_the_entry_point_leads_to_the_metadata():
    found = [entry for entry in entry_points(group="apache_airflow_provider") if "lamini" in entry.value]
    assert [entry.load() for entry in found] == [get_provider_info]


def test_the_metadata_names_this_version():
    info = get_provider_info()
    assert info["package-name"] == "airflow-provider-lamini"
    assert info["versions"] == [airflow_provider_lamini.__version__]


def test_hooks_that_the_metadata_names_exist_and_agree_with_it():
    from airflow.providers.common.compat.sdk import BaseHook

    from airflow_provider_lamini.hooks.lamini import LaminiHook

    (entry,) = get_provider_info()["connection-types"]
    assert entry["hook-class-name"] == f"{LaminiHook.__module__}.{LaminiHook.__qualname__}"
    assert (entry["connection-type"], entry["hook-name"]) == (LaminiHook.conn_type, LaminiHook.hook_name)
    assert issubclass(LaminiHook, BaseHook)


def test_options_of_the_configuration_are_known_to_airflow():
    from airflow.providers.common.compat.sdk import conf

    assert conf.get("lamini", "state_path", fallback="none") in ("", "none")
    from airflow.providers_manager import ProvidersManager

    sections = dict(ProvidersManager().provider_configs)["airflow-provider-lamini"]
    assert list(sections["lamini"]["options"]) == ["state_path"]
    assert list(sections["airflow_provider_lamini"]["options"]) == ["freeze_gc"]
    assert conf.get("airflow_provider_lamini", "freeze_gc", fallback="False") == "False"


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_db")
def test_the_command_line_of_airflow_lists_provider_and_hook():
    shown = airflow_says("providers", "get", "airflow-provider-lamini", "--full", "-o", "json")
    assert "airflow_provider_lamini.hooks.lamini.LaminiHook" in shown
    hooks = airflow_says("providers", "hooks", "-o", "plain")
    (line,) = [line for line in hooks.splitlines() if line.startswith("lamini ")]
    assert "lamini_conn_id" in line


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_db")
def test_the_command_line_of_airflow_lists_the_fields_of_the_form():
    shown = airflow_says("providers", "widgets", "-o", "plain")
    assert "extra__lamini__connect_timeout" in shown
