"""The plugin itself: what each Airflow version gets of it, and what it costs."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_lamini.plugins.pages import LlmPagesPlugin
from tests.support.forks import warm_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

AIRFLOW = """
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
import airflow.providers.common.compat.version_compat
"""

LOADED = """
import json, sys, warnings
warnings.simplefilter("error")
before = set(sys.modules)
from airflow_provider_lamini.plugins.pages import LlmPagesPlugin as plugin
views = [view["href"] for view in getattr(plugin, "external_views", [])]
print(json.dumps([sorted(set(sys.modules) - before), len(getattr(plugin, 'fastapi_apps', [])), views]))
"""

FOUND = """
import json
from airflow import plugins_manager
try:
    plugins, errors = plugins_manager._get_plugins()
except AttributeError:  # before Airflow 3.2
    plugins_manager.ensure_plugins_loaded()
    plugins, errors = plugins_manager.plugins, plugins_manager.import_errors
print(json.dumps([[plugin.name for plugin in plugins], [f"{name}: {error}" for name, error in errors.items()]]))
"""


@pytest.fixture(scope="module")
def run_python() -> Iterator[Callable[..., Any]]:
    """Returns a function that runs code in a process with Airflow, and returns what it prints last, read as JSON."""
    with warm_python(AIRFLOW) as python:
        yield lambda code, **env: json.loads(python.run(code, **env).splitlines()[-1])


@pytest.mark.long
def test_the_plugin_has_one_application_and_its_views_where_airflow_shows_them(run_python):
    modules, apps, views = run_python(LOADED, AIRFLOW__API__BASE_URL="https://airflow.test/team/")
    assert (apps, len(views)) == ((1, 2) if AIRFLOW_V_3_1_PLUS else (0, 0))
    assert all(view.startswith("/team/llm_pages/") for view in views)
    # Airflow loads the plugin in each of its processes.
    assert len([name for name in modules if name.startswith("airflow_provider_lamini")]) < 10, modules
    heavy = {"fastapi", "starlette", "httpx", "msgspec", "sqlalchemy", "pyarrow"}
    assert not {name.partition(".")[0] for name in modules} & heavy


@pytest.mark.long
def test_the_configuration_turns_the_pages_off(run_python):
    assert run_python(LOADED, AIRFLOW__AIRFLOW_PROVIDER_LAMINI__PAGES="False")[1:] == [0, []]


def test_the_entry_point_names_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["airflow.plugins"].items()
    module, _, attribute = value.partition(":")
    assert getattr(import_module(module), attribute) is LlmPagesPlugin
    assert LlmPagesPlugin.name == name


@pytest.mark.parametrize("lazy", ["True", "False"])
def test_airflow_finds_the_plugin_once(run_python, lazy):
    plugins, errors = run_python(FOUND, AIRFLOW__CORE__LAZY_DISCOVER_PROVIDERS=lazy)
    assert plugins.count("llm_pages") == 1
    assert not [error for error in errors if "llm_pages" in error or "lamini" in error]


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="older versions do not show pages")
def test_airflow_accepts_the_plugin_as_its_api_describes_plugins():
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse, FastAPIAppResponse

    for view in LlmPagesPlugin.external_views:
        ExternalViewResponse.model_validate(view)
    for app in LlmPagesPlugin.fastapi_apps:
        FastAPIAppResponse.model_validate({**app, "app": type(app["app"]).__name__})
