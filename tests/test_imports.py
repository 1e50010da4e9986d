"""Which package may import which, what importing costs, and that only platforms know platforms."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_provider_lamini

long = pytest.mark.long

ROOT = Path(airflow_provider_lamini.__file__).parent
LAYERS = (
    ("operators", "sensors", "decorators"),
    ("runs",),
    ("triggers",),
    ("hooks", "results", "corpus"),
    ("platforms",),
    ("jobs", "rows"),
    ("api",),
)
"""From top to bottom: a package imports only packages of lower lines."""
SMALL_MODULES = ("compat", "exceptions", "links", "get_provider_info", "__init__")
"""They belong to no layer; each is bound by a test of its own, or imports almost nothing."""
PACKAGES_WITHOUT_AIRFLOW = ("api", "jobs")
PACKAGES_WITHOUT_OPERATORS = ("api", "jobs", "platforms", "rows")
PACKAGES_WITHOUT_PLATFORM_NAMES = ("api", "jobs", "triggers")
PACKAGES_THAT_DAGS_IMPORT = ("operators", "sensors", "decorators", "triggers", "hooks", "notifications")
LOCAL_ONLY = ("fastapi", "uvicorn", "starlette", "xllamacpp", "gguf", "tokenizers", "torch", "transformers")
LOADED_BY_RUNNING_TASKS = {
    "airflow_provider_lamini.hooks.probe",
    "airflow_provider_lamini.hooks.watches",
}
"""Modules of those packages that only running tasks and triggers import, not Dag files."""
HEAVY = ("pyarrow", "numpy", "pandas", "wtforms", "flask_appbuilder")
MAX_MODULES = 30
"""Modules that an import in a Dag file may load beyond those that ``BaseOperator`` itself loads."""
PLATFORM_WORDS = re.compile(r"lamini|emissary|\b(?:497|498|499|513|524|594)\b", re.IGNORECASE)
OWN_NAME = re.compile(r"airflow[-_]provider[-_]lamini", re.IGNORECASE)

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini.")
)


IMPORTED_BY_DAGS = [
    module
    for module in MODULES
    if module.split(".")[1] in PACKAGES_THAT_DAGS_IMPORT and module not in LOADED_BY_RUNNING_TASKS
]


def package(module):
    """The package directly below ours that a module belongs to."""
    return module.split(".")[1]


def imports_of(path):
    """The packages of ours that a file imports anywhere, also only for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module == "airflow_provider_lamini":
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.startswith("airflow_provider_lamini."):
                yield package(module)


def test_each_package_imports_only_packages_of_lower_layers():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        importer = path.relative_to(ROOT).with_suffix("").parts[0]
        if importer == "local" or importer in SMALL_MODULES:
            continue
        assert importer in level, f"{importer} has no layer: add it to LAYERS"
        wrong += [
            f"{path.relative_to(ROOT)} imports {imported}"
            for imported in imports_of(path)
            if imported in level and imported != importer and level[imported] <= level[importer]
        ]
    assert not wrong


def test_only_the_local_platform_imports_itself():
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "local"]
    assert not [str(path) for path in files if "local" in imports_of(path)]


@pytest.mark.parametrize("name", PACKAGES_WITHOUT_PLATFORM_NAMES)
def test_generic_packages_name_no_platform_and_no_private_status(name):
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / name).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PLATFORM_WORDS.search(OWN_NAME.sub("", line))
    ]
    assert not lines


@cache
def loaded(*statements):
    """The modules that a new Python process has loaded after some statements."""
    code = "\n".join([*statements, "import sys, json", "print(json.dumps(sorted(sys.modules)))"])
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=dict(os.environ),
    )
    assert process.returncode == 0, process.stderr
    return frozenset(json.loads(process.stdout.splitlines()[-1]))


def top_packages(names):
    """Names of top-level packages."""
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="session")
def base_operator_modules():
    """The modules that Airflow's ``BaseOperator`` loads, which every Dag file loads anyway."""
    return loaded(
        "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook, conf"
    )


@long
@pytest.mark.parametrize("name", PACKAGES_WITHOUT_AIRFLOW)
def test_api_and_jobs_import_no_airflow(name):
    modules = [module for module in MODULES if package(module) == name]
    assert "airflow" not in top_packages(loaded(*(f"import {module}" for module in modules)))


@long
def test_packages_below_hooks_import_no_operator_hook_or_trigger_of_airflow():
    modules = [module for module in MODULES if package(module) in PACKAGES_WITHOUT_OPERATORS]
    names = loaded(*(f"import {module}" for module in modules))
    kinds = ("operators", "hooks", "triggers", "sensors")
    ours = tuple(f"airflow_provider_lamini.{kind}" for kind in kinds)
    assert not [name for name in names if name.startswith(ours)]
    assert not {"airflow.triggers.base", "airflow.models.baseoperator", "airflow.sdk.bases.operator"} & names


@long
def test_a_trigger_loads_only_the_platform_of_its_jobs():
    names = loaded(
        "from airflow_provider_lamini.triggers.job import _import_all",
        "_import_all('lamini/tuning')",
    )
    platforms = {
        name.split(".")[2] for name in names if name.startswith("airflow_provider_lamini.platforms.")
    }
    assert platforms == {"base", "lamini"}


@long
def test_other_packages_load_nothing_of_the_local_platform():
    """All other packages together load neither the local platform nor its dependencies."""
    modules = [module for module in MODULES if package(module) != "local"]
    before = loaded(
        "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook, conf",
        "import httpx, pydantic, tenacity, msgspec",
    )
    added = loaded(*(f"import {module}" for module in modules)) - before
    assert not [name for name in added if name.startswith("airflow_provider_lamini.local")]
    assert not top_packages(added) & {*LOCAL_ONLY, *HEAVY}


@long
@pytest.mark.parametrize("module", IMPORTED_BY_DAGS)
def test_an_import_in_a_dag_file_loads_few_modules(module, base_operator_modules):
    added = loaded(f"import {module}") - base_operator_modules
    assert len(added) <= MAX_MODULES, sorted(added)


@long
@pytest.mark.parametrize("module", IMPORTED_BY_DAGS)
def test_an_import_in_a_dag_file_loads_no_client_and_no_platform(module, base_operator_modules):
    """Clients, models and row formats are loaded when a task runs, not when a Dag file is parsed."""
    added = loaded(f"import {module}") - base_operator_modules - loaded("import airflow.triggers.base")
    assert not top_packages(added) & {"httpx", "pydantic", "msgspec", "tenacity", *HEAVY}, sorted(added)
    assert not [name for name in added if name.startswith("airflow_provider_lamini.platforms.lamini")]


@long
def test_the_provider_info_loads_little_and_no_airflow():
    """Airflow reads it while Airflow itself is being imported, before its configuration exists."""
    added = (
        loaded("from airflow_provider_lamini.get_provider_info import get_provider_info as g", "g()")
        - loaded()
    )
    assert "airflow" not in top_packages(added)
    assert len(added) < 40, sorted(added)


@long
def test_importing_the_package_does_not_read_the_metadata_of_providers():
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
