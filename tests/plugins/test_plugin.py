"""The plugin itself: what each Airflow version gets of it, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_lamini.get_provider_info import get_provider_info
from airflow_provider_lamini.plugins.pages import LlmPagesPlugin

ROOT = Path(__file__).resolve().parents[2]

LOADED = """
import json, sys, warnings
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
import airflow.providers.common.compat.version_compat
warnings.simplefilter("error")
before = set(sys.modules)
from airflow_provider_lamini.plugins.pages import LlmPagesPlugin as plugin
views = [view["href"] for view in getattr(plugin, "external_views", [])]
print(json.dumps([sorted(set(sys.modules) - before), len(getattr(plugin, 'fastapi_apps', [])), views]))
"""


def load_plugin(**env: str) -> tuple[list[str], int, list[str]]:
    """Import the plugin in a new process; return the modules that this loads, and the numbers of its apps and views."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=os.environ | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules, apps, views = json.loads(done.stdout.splitlines()[-1])
    return modules, apps, views


def test_the_plugin_has_one_application_and_its_views_where_airflow_shows_them():
    modules, apps, views = load_plugin(AIRFLOW__API__BASE_URL="https://airflow.test/team/")
    assert (apps, len(views)) == ((1, 2) if AIRFLOW_V_3_1_PLUS else (0, 0))
    assert all(view.startswith("/team/llm_pages/") for view in views)
    # Airflow loads the plugin in each of its processes.
    assert len([name for name in modules if name.startswith("airflow_provider_lamini")]) < 10, modules
    heavy = {"fastapi", "starlette", "httpx", "msgspec", "sqlalchemy", "pyarrow"}
    assert not {name.partition(".")[0] for name in modules} & heavy


def test_the_configuration_turns_the_pages_off():
    assert load_plugin(AIRFLOW__AIRFLOW_PROVIDER_LAMINI__PAGES="False")[1:] == (0, [])


def test_the_metadata_and_the_entry_point_name_the_plugin():
    (entry,) = get_provider_info()["plugins"]
    module, _, name = entry["plugin-class"].rpartition(".")
    assert getattr(import_module(module), name) is LlmPagesPlugin
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["airflow.plugins"] == {entry["name"]: f"{module}:{name}"}
    assert LlmPagesPlugin.name == entry["name"]


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="older versions do not show pages")
def test_airflow_accepts_the_plugin_as_its_api_describes_plugins():
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse, FastAPIAppResponse

    for view in LlmPagesPlugin.external_views:
        ExternalViewResponse.model_validate(view)
    for app in LlmPagesPlugin.fastapi_apps:
        FastAPIAppResponse.model_validate({**app, "app": type(app["app"]).__name__})
