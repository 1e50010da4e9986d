"""The metadata that Airflow reads about the provider."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_lamini
from airflow_provider_lamini.get_provider_info import get_provider_info

SCHEMAS = Path(airflow.__file__).parent


def test_the_metadata_matches_the_schema_of_this_airflow_version():
    schema = json.loads((SCHEMAS / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.skipif(find_spec("airflow.sdk") is None, reason="Airflow 2 has no declarative forms")
def test_the_connection_type_matches_the_stricter_schema_of_airflows_own_providers():
    """The schema of the metadata does not cover forms; the schema for Airflow's own providers does."""
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    types = schema["properties"]["connection-types"]
    jsonschema.validate(
        get_provider_info()["connection-types"], {**types, "definitions": schema.get("definitions")}
    )


def test_the_entry_point_loads_the_metadata():
    entries = [entry for entry in entry_points(group="apache_airflow_provider") if "lamini" in entry.value]
    assert [entry.load() for entry in entries] == [get_provider_info]


def test_the_metadata_names_this_version():
    info = get_provider_info()
    assert info["package-name"] == "airflow-provider-lamini"
    assert info["versions"] == [airflow_provider_lamini.__version__]


@pytest.mark.parametrize("name", ["lamini", "emissary"])
def test_the_hook_in_the_metadata_exists_and_agrees_with_it(name):
    from airflow.providers.common.compat.sdk import BaseHook

    (entry,) = (each for each in get_provider_info()["connection-types"] if each["connection-type"] == name)
    module, _, hook_name = entry["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), hook_name)
    assert (name, entry["hook-name"]) == (hook.conn_type, hook.hook_name)
    assert hook.platform().form.conn_type == name
    assert hook.default_conn_name == f"{name}_default"
    assert issubclass(hook, BaseHook)


def test_airflow_knows_the_configuration_options():
    from airflow.providers.common.compat.sdk import conf

    assert conf.get("lamini", "state_path", fallback="none") in ("", "none")
    from airflow.providers_manager import ProvidersManager

    sections = dict(ProvidersManager().provider_configs)["airflow-provider-lamini"]
    assert list(sections["lamini"]["options"]) == ["state_path"]
    assert list(sections["emissary"]["options"]) == ["state_path"]
    assert list(sections["airflow_provider_lamini"]["options"]) == [
        "defer_after",
        "min_trigger_seconds",
        "freeze_gc",
        "pages",
        "page_rows",
    ]
    assert conf.get("airflow_provider_lamini", "freeze_gc", fallback="False") == "False"
