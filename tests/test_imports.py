"""What importing costs, and which room may import which."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_provider_lamini

pytestmark = pytest.mark.long

ROOMS_WITHOUT_AIRFLOW = ("api", "jobs")
ROOMS_THAT_DAGS_IMPORT = ("operators", "sensors", "decorators", "triggers", "hooks", "notifications")
LOCAL_ONLY = ("fastapi", "uvicorn", "starlette", "xllamacpp", "gguf", "tokenizers", "torch", "transformers")
LOADED_BY_RUNNING_TASKS = {
    "airflow_provider_lamini.hooks.probe",
    "airflow_provider_lamini.hooks.watches",
}
"""Modules of those rooms that only running tasks and triggers import; one that imports them at once fails."""
HEAVY = ("pyarrow", "numpy", "pandas", "wtforms", "flask_appbuilder")
MOST_MODULES = 30
"""Modules that a Dag's import of ours may load beyond those that ``BaseOperator`` itself loads."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini.")
)


PAID_BY_DAGS = [
    module
    for module in MODULES
    if module.split(".")[1] in ROOMS_THAT_DAGS_IMPORT and module not in LOADED_BY_RUNNING_TASKS
]


def room(module):
    """The package directly below ours that a module lies in."""
    return module.split(".")[1]


@cache
def loaded(*statements):
    """The modules that a fresh Python holds after some statements."""
    code = "\n".join([*statements, "import sys, json", "print(json.dumps(sorted(sys.modules)))"])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def tops(names):
    """Names of the distributions' top packages."""
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="session")
def of_base_operator():
    """The modules that Airflow's ``BaseOperator`` loads, which every Dag pays anyhow."""
    return loaded(
        "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook, conf"
    )


@pytest.mark.parametrize("name", ROOMS_WITHOUT_AIRFLOW)
def test_rooms_below_airflow_import_none_of_it(name):
    ours = [module for module in MODULES if room(module) == name]
    found = loaded(*(f"import {module}" for module in ours))
    assert "airflow" not in tops(found)


def test_only_the_local_platform_imports_itself_and_what_it_runs_on():
    """Everything else together, in one process, loads neither the local platform nor its dependencies."""
    ours = [module for module in MODULES if room(module) != "local"]
    before = loaded(
        "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook, conf",
        "import httpx, pydantic, tenacity, msgspec",
    )
    added = loaded(*(f"import {module}" for module in ours)) - before
    assert not [name for name in added if name.startswith("airflow_provider_lamini.local")]
    assert not tops(added) & {*LOCAL_ONLY, *HEAVY}


@pytest.mark.parametrize("module", PAID_BY_DAGS)
def test_a_dag_that_imports_the_module_pays_little(module, of_base_operator):
    """Clients, models and row formats are loaded when a task runs, not when a Dag is parsed."""
    added = loaded(f"import {module}") - of_base_operator
    assert len(added) <= MOST_MODULES, sorted(added)


@pytest.mark.parametrize("module", PAID_BY_DAGS)
def test_a_dag_that_imports_the_module_loads_no_client(module, of_base_operator):
    added = loaded(f"import {module}") - of_base_operator - loaded("import airflow.triggers.base")
    assert not tops(added) & {"httpx", "pydantic", "msgspec", "tenacity", *HEAVY}, sorted(added)
    assert not [name for name in added if name.startswith("airflow_provider_lamini.platforms.lamini.api")]


def test_the_package_itself_is_nearly_free_and_needs_no_airflow():
    """Airflow imports it while it is being imported itself, before its configuration exists."""
    added = (
        loaded("from airflow_provider_lamini.get_provider_info import get_provider_info as g", "g()")
        - loaded()
    )
    assert "airflow" not in tops(added)
    assert len(added) < 40, sorted(added)


def test_nothing_of_ours_reads_the_metadata_of_providers_at_import():
    assert "airflow.providers_manager" not in loaded("import airflow_provider_lamini")


PACKAGE = Path(airflow_provider_lamini.__file__).parent
LAYERS_OF_ROWS = ("storage", "sources", "ledger", "output")
"""Each imports only itself and those before it."""


def imports_of(path):
    """The modules of ours that a module imports anywhere, also for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(SOURCES)


SOURCES = {
    ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if not path.is_relative_to(PACKAGE / "local")
}


def test_no_modules_import_each_other():
    try:
        TopologicalSorter({name: imports_of(path) for name, path in SOURCES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_packages_of_rows_import_in_one_direction_only():
    for number, layer in enumerate(LAYERS_OF_ROWS):
        for path in (PACKAGE / "rows" / layer).glob("*.py"):
            packages = {name.split(".")[2] for name in imports_of(path) if name.count(".") > 2}
            assert not packages & set(LAYERS_OF_ROWS[number + 1 :]), path


@pytest.mark.parametrize("package", ["rows", "corpus"])
def test_rows_and_training_data_know_no_platform_by_name(package):
    for path in (PACKAGE / package).rglob("*.py"):
        text = path.read_text().lower().replace(PACKAGE.name, "").replace("airflow-provider-lamini", "")
        assert "lamini" not in text, path
        assert "emissary" not in text, path
