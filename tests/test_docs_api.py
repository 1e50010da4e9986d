"""The page of each platform's API names each request that there is, and no other."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import airflow_provider_lamini
from airflow_provider_lamini.api.call import Call
from airflow_provider_lamini.platforms.emissary import api as emissary
from airflow_provider_lamini.platforms.lamini import api as lamini

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [(lamini, "api.md"), (emissary, "emissary-api.md")]

each_page = pytest.mark.parametrize(("api", "page"), PAGES, ids=[name for _, name in PAGES])


def requests(api):
    """Every function that makes a request, as ``module.function``."""
    for module in pkgutil.iter_modules(api.__path__):
        found = import_module(f"{api.__name__}.{module.name}")
        for name, function in inspect.getmembers(found, inspect.isfunction):
            given = inspect.get_annotations(function, eval_str=True).get("return")
            is_request = getattr(given, "__origin__", given) is Call
            if is_request and function.__module__ == found.__name__ and not name.startswith("_"):
                yield f"{module.name}.{name}"


@each_page
def test_every_request_is_named_once_and_no_other(api, page):
    named = re.findall(r"^\| ([^|]+) \|", (DOCS / page).read_text(), re.MULTILINE)
    spans = [span for cell in named for span in re.findall(r"`(\w+\.\w+)`", cell)]
    assert sorted(spans) == sorted(requests(api))


@each_page
def test_operators_that_are_named_exist(api, page):
    del api
    package = Path(airflow_provider_lamini.__file__).parent
    code = "".join(
        file.read_text() for room in ("operators", "sensors") for file in (package / room).rglob("*.py")
    )
    named = set(re.findall(r"`((?:Lamini|Emissary)\w+(?:Operator|Sensor))`", (DOCS / page).read_text()))
    assert named
    for name in named:
        assert f"class {name}(" in code, name


@each_page
def test_the_example_is_python_and_imports_what_there_is(api, page):
    del api
    (example,) = re.findall(r"```python\n(.+?)```", (DOCS / page).read_text(), re.DOTALL)
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("airflow_provider_lamini"):
            module = import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}")
