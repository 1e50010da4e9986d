"""The cost of imports: what a Dag file, a trigger and Airflow itself load with the package."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from functools import cache

import pytest

import airflow_provider_lamini
from tests.support.forks import warm_python

pytestmark = pytest.mark.long

PACKAGES_WITHOUT_AIRFLOW = ("api", "jobs")
PACKAGES_WITHOUT_OPERATORS = ("api", "jobs", "platforms", "rows")
PACKAGES_FOR_DAGS = ("decorators", "operators", "sensors", "triggers", "hooks")
LOADED_BY_RUNNING_TASKS = {
    "airflow_provider_lamini.hooks.single_request",
    "airflow_provider_lamini.hooks.telemetry",
    "airflow_provider_lamini.hooks.watches",
}
"""Modules of those packages that only running tasks and triggers import."""
LOCAL_ONLY = ("fastapi", "uvicorn", "starlette", "xllamacpp", "gguf", "tokenizers", "torch", "transformers")
HEAVY = ("pyarrow", "numpy", "pandas", "wtforms", "flask_appbuilder")
CLIENT = ("httpx", "pydantic", "msgspec", "tenacity")
MAXIMUM_MODULES = 30
"""Maximum number of modules that an import in a Dag file loads in addition to those of ``BaseOperator``."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini.")
)
MODULES_FOR_DAGS = [
    module
    for module in MODULES
    if module.split(".")[1] in PACKAGES_FOR_DAGS and module not in LOADED_BY_RUNNING_TASKS
]

AIRFLOW = "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook, conf"
"""Loads what every Dag file loads anyway."""

TASKFLOW = "from airflow.providers.common.compat.sdk import DecoratedOperator, task"
"""Loads what every Dag file with ``@task`` loads anyway."""

LOADED = """
import json, sys
print(json.dumps(sorted(sys.modules)))
"""


@cache
def loaded(*statements):
    """Return the modules that a new Python process has loaded after some statements."""
    code = "\n".join([*statements, LOADED])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def beside_airflow():
    """Returns a function like `loaded`; its processes have loaded Airflow before."""
    with warm_python(AIRFLOW) as python:
        yield lambda *statements: frozenset(
            json.loads(python.run("\n".join([*statements, LOADED])).splitlines()[-1])
        )


def top_packages(names):
    return {name.partition(".")[0] for name in names}


def test_packages_below_airflow_do_not_import_it():
    modules = [module for module in MODULES if module.split(".")[1] in PACKAGES_WITHOUT_AIRFLOW]
    assert "airflow" not in top_packages(loaded(*(f"import {module}" for module in modules)))


def test_packages_below_hooks_load_no_operator_hook_or_trigger():
    modules = [module for module in MODULES if module.split(".")[1] in PACKAGES_WITHOUT_OPERATORS]
    names = loaded(*(f"import {module}" for module in modules))
    ours = tuple(f"airflow_provider_lamini.{kind}" for kind in ("operators", "hooks", "triggers", "sensors"))
    assert not [name for name in names if name.startswith(ours)]
    assert not {"airflow.triggers.base", "airflow.models.baseoperator", "airflow.sdk.bases.operator"} & names


@pytest.mark.parametrize(("kind", "other"), [("lamini/tuning", "emissary"), ("emissary/training", "lamini")])
def test_a_trigger_loads_only_the_platform_of_its_jobs(beside_airflow, kind, other):
    names = beside_airflow(
        "from airflow_provider_lamini.triggers.job import _import_all", f"_import_all({kind!r})"
    )
    package = f"airflow_provider_lamini.platforms.{kind.partition('/')[0]}"
    assert {f"{package}.platform", f"{package}.kinds"} <= names
    others = f"airflow_provider_lamini.platforms.{other}"
    # Airflow itself reads the connection forms of all platforms.
    assert {name for name in names if name.startswith(others)} <= {others, f"{others}.connection"}


def test_validating_the_prices_of_a_connection_loads_nothing_that_reads_or_judges_rows():
    names = loaded("import airflow_provider_lamini.rows.answers.prices")
    rows = {name for name in names if name.startswith("airflow_provider_lamini.rows.")}
    assert rows == {
        f"airflow_provider_lamini.rows.{name}" for name in ("answers", "answers.prices", "numbers", "tokens")
    }
    assert not top_packages(names) & {*CLIENT, *HEAVY}


def test_a_process_that_reads_documents_loads_no_web_framework():
    """Each index that is built starts one, which would spend half a second on that."""
    names = loaded(
        "from airflow_provider_lamini.local.rag.reader_process import _read",
        "assert 'FileNotFoundError' in _read({'cpu_seconds': 60, 'path': 'no file', 'name': 'a.txt'}, 0)[0]['error']",
    )
    assert not top_packages(names) & {"fastapi", "starlette", "pydantic"}


def test_only_the_local_platform_and_the_api_server_import_what_serves_http(beside_airflow):
    only_served = "airflow_provider_lamini.plugins.app"  # Airflow's API server imports it, at a first request
    modules = [module for module in MODULES if module.split(".")[1] != "local" and module != only_served]
    before = beside_airflow("import httpx, pydantic, tenacity, msgspec")
    added = beside_airflow(*(f"import {module}" for module in modules)) - before
    assert not [name for name in added if name.startswith("airflow_provider_lamini.local")]
    assert not top_packages(added) & {*LOCAL_ONLY, *HEAVY}


def test_an_import_in_a_dag_file_is_cheap(beside_airflow):
    """Clients, models and row formats are imported when a task runs, not when a Dag is parsed."""
    before, by_taskflow = beside_airflow(), beside_airflow(TASKFLOW)
    by_triggers = beside_airflow("import airflow.triggers.base")
    platforms = ("airflow_provider_lamini.platforms.lamini", "airflow_provider_lamini.platforms.emissary")
    for module in MODULES_FOR_DAGS:
        added = beside_airflow(f"import {module}") - (by_taskflow if ".decorators" in module else before)
        assert module in added
        assert len(added) <= MAXIMUM_MODULES, (module, sorted(added))
        ours = added - by_triggers
        assert not top_packages(ours) & {*CLIENT, *HEAVY}, (module, sorted(ours))
        assert not [name for name in ours if name.startswith(platforms)], module


def test_the_package_itself_is_nearly_free_and_needs_no_airflow():
    """Airflow imports it while Airflow itself is being imported, before its configuration exists."""
    added = (
        loaded("from airflow_provider_lamini.get_provider_info import get_provider_info as g", "g()")
        - loaded()
    )
    assert "airflow" not in top_packages(added)
    assert len(added) < 40, sorted(added)


def test_importing_the_package_does_not_load_the_providers_manager():
    assert "airflow.providers_manager" not in loaded("import airflow_provider_lamini")
