"""The documentation site: each operator has a how-to and a reference, each error is explained, nothing is left out."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import airflow_provider_lamini
from tests.bad_input.world import operator_classes

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HOWTO_DAGS = ROOT / "dags_examples" / "howto"
OPERATORS = sorted({kind.__name__ for kind in operator_classes().values()} | {"ResultsToTableOperator"})
NOT_OF_TASKS = ("airflow_provider_lamini.local", "airflow_provider_lamini.plugins")
"""Packages that no task uses: a program of its own, and pages that turn their errors into responses."""
INTERNAL_ERRORS = {
    "AttemptFailed": "api.failures: the client turns it into a PlatformError",
    "TooLargeError": "api.transfer: the client turns it into a ResponseTooLargeError",
    "MisfitError": "rows.answers.output_shape: makes a failed row",
    "ConversationError": "rows.prompts.conversation: makes a bad row",
    "BusyError": "rows.storage.base: the folder turns it into a FolderBusyError",
    "DamagedStreamError": "rows.sources.compression: turned into an InputError where it is raised",
}
"""Exceptions that never reach a user, and what becomes of each."""
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
EXCERPT = re.compile(r"```python\n# (dags_examples/howto/\w+\.py)\n(.*?)```", re.DOTALL)


def howtos() -> dict[str, tuple[str, str]]:
    """The Dag file and the code that a how-to shows for each operator."""
    found = {}
    for page in (DOCS / "howto").glob("*.md"):
        for operator, section in SECTION.findall(page.read_text(encoding="utf-8")):
            ((file, code),) = EXCERPT.findall(section)
            found.setdefault(operator, (file, code))
    return found


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_a_how_to_that_uses_it_in_a_dag(name):
    file, code = howtos()[name]
    assert f"{name}(" in code
    assert code in (ROOT / file).read_text(encoding="utf-8")


def test_every_dag_of_a_how_to_is_run_by_a_test():
    tests = (ROOT / "tests" / "test_howto_dags.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r'run\("(\w+)"', tests)) == sorted(file.stem for file in HOWTO_DAGS.glob("*.py"))


def documented() -> list[str]:
    """The modules and classes of the reference."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    return re.findall(r"^\.\. auto(?:module|class):: (\S+)", pages, re.MULTILINE)


def test_every_operator_is_in_the_reference():
    assert sorted({kind.__module__ for kind in operator_classes().values()} - set(documented())) == []


def test_the_reference_names_only_what_is_there():
    for name in documented():
        module, _, last = name.rpartition(".")
        assert last.islower() or hasattr(importlib.import_module(module), last), name
        assert not last.islower() or importlib.import_module(name)


@functools.cache
def all_errors() -> dict[str, type[Exception]]:
    """All exceptions of the package whose names do not begin with an underscore."""
    found = {}
    for each in pkgutil.walk_packages(airflow_provider_lamini.__path__, "airflow_provider_lamini."):
        if each.name.startswith(NOT_OF_TASKS):
            continue
        module = importlib.import_module(each.name)
        for error in vars(module).values():
            own = inspect.isclass(error) and error.__module__ == module.__name__
            if own and issubclass(error, Exception) and not error.__name__.startswith("_"):
                found[error.__name__] = error
    return found


def public_errors() -> dict[str, type[Exception]]:
    """All exceptions that a user can meet."""
    return {name: error for name, error in all_errors().items() if name not in INTERNAL_ERRORS}


def test_an_internal_error_is_one_that_is_there():
    for name, place in INTERNAL_ERRORS.items():
        assert all_errors()[name].__module__ == f"airflow_provider_lamini.{place.partition(':')[0]}"


def test_every_error_and_the_public_trigger_are_in_the_reference():
    named = {f"{error.__module__}.{name}": error.__module__ for name, error in public_errors().items()}
    named["airflow_provider_lamini.triggers.job_event.JobEventTrigger"] = ""
    listed = set(documented())
    assert [name for name, module in named.items() if not {name, module} & listed] == []


def test_a_page_is_in_one_table_of_contents():
    entries = re.findall(r"^   (\S+)$", (DOCS / "index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(entries) - {":glob:"}) == len([entry for entry in entries if entry != ":glob:"])


def rows_of_errors() -> dict[str, list[str]]:
    """The other cells of the row of each error."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {first.strip(" `"): [cell.strip() for cell in others] for first, *others in rows}


def test_every_error_says_what_it_means_and_what_to_do():
    rows = rows_of_errors()
    assert set(rows) == set(public_errors())
    for name, (means, *others) in rows.items():
        assert means, name
        assert others[0] or means.startswith("the root of"), name


def test_the_column_of_retries_is_true():
    from airflow.providers.common.compat.sdk import AirflowFailException

    for name, cells in rows_of_errors().items():
        if len(cells) == 3:
            assert (cells[2] == "no") is issubclass(public_errors()[name], AirflowFailException), name


def test_every_page_is_on_the_site():
    """The build refuses a page that no table of contents names, if it finds the page at all."""
    config = ast.parse((DOCS / "conf.py").read_text(encoding="utf-8"))
    patterns = [node.value for node in ast.walk(config) if isinstance(node, ast.Constant)]
    assert {
        "docs/**.md",
        "docs/**.rst",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    } <= set(patterns)
