"""Which package may import which, and that only platforms know platforms. Read from the source; nothing is imported."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_provider_lamini

ROOT = Path(airflow_provider_lamini.__file__).parent
LAYERS = (
    ("decorators", "plugins"),
    ("operators", "sensors"),
    ("runs",),
    ("triggers",),
    ("hooks", "results", "corpus"),
    ("platforms",),
    ("jobs", "rows"),
    ("api",),
)
"""From top to bottom: a package imports only packages of lower lines."""
ROW_LAYERS = ("storage", "prompts", "sources", "ledger", "output", "answers")
"""Packages of ``rows``: each imports only itself and those before it."""
SMALL_MODULES = (
    "compat",
    "exceptions",
    "links",
    "get_provider_info",
    "retry_policies",
    "wording",
    "__init__",
)
"""They belong to no layer: they import almost nothing."""
GENERIC = (
    "api",
    "jobs",
    "rows",
    "corpus",
    "triggers",
    "runs",
    "plugins",
    "platforms/base.py",
    "hooks/base.py",
    "hooks/connection.py",
    "hooks/forms.py",
    "hooks/single_request.py",
    "hooks/telemetry.py",
    "hooks/watches.py",
    "operators/base.py",
    "operators/lineage.py",
    "operators/row_operator.py",
    "operators/templates.py",
    "decorators/base.py",
    "sensors/base.py",
    "results.py",
    "exceptions.py",
    "links.py",
)
"""They know no platform, apart from the packages in ``runs`` that belong to one."""
OF_A_PLATFORM = (ROOT / "runs" / "lamini", ROOT / "runs" / "emissary")
PLATFORM_WORDS = re.compile(r"lamini|emissary|\b(?:497|498|499|513|524|594)\b|/v\d", re.IGNORECASE)
"""Names of platforms, their private status codes, and paths of their APIs."""
OWN_WORDS = re.compile(r'^    [A-Z_]+ = "(.*)"$', re.MULTILINE)
"""The words of `JobState`, which are also words of platforms."""
OTHER_MEANINGS = ("pending", "canceled", "created")
"""Words of platforms that are also a field of an event, a reason why generation ended, and a time in a store's answer."""
PACKAGE_NAME = re.compile(r"airflow[-_]provider[-_]lamini", re.IGNORECASE)

SOURCES = {
    ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


@cache
def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere, also only for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(SOURCES)


def package(module: str) -> str:
    """The package directly below ours that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def files_of(name: str) -> list[Path]:
    place = ROOT / name
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    return [path for path in files if not any(map(path.is_relative_to, OF_A_PLATFORM))]


def test_each_package_imports_only_packages_of_lower_layers():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        importer = path.relative_to(ROOT).with_suffix("").parts[0]
        if importer == "local" or importer in SMALL_MODULES:
            continue
        assert importer in level, f"{importer} has no layer: add it to LAYERS"
        wrong += [
            f"{path.relative_to(ROOT)} imports {module}"
            for module in imports_of(path)
            if package(module) in level
            and package(module) != importer
            and level[package(module)] <= level[importer]
        ]
    assert not wrong


def packages_of_rows(path: Path) -> set[str]:
    """The packages of ``rows`` that a file imports."""
    return set(ROW_LAYERS) & {module.split(".")[2] for module in imports_of(path) if module.count(".") > 2}


def test_the_packages_of_rows_import_in_one_direction():
    for number, layer in enumerate(ROW_LAYERS):
        for path in (ROOT / "rows" / layer).glob("*.py"):
            assert not packages_of_rows(path) & set(ROW_LAYERS[number + 1 :]), path
    for path in (ROOT / "rows").glob("*.py"):
        # A platform's endpoint is asked for answers and returns results.
        assert not packages_of_rows(path) or path.stem in ("endpoints", "generation"), path


def test_no_modules_import_each_other():
    try:
        TopologicalSorter({name: imports_of(path) for name, path in SOURCES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def classes() -> dict[tuple[str, str], tuple[set[str], list[tuple[str, str]]]]:
    """The private methods of each class of ours and its bases, by module and name. A base that is not ours is in no module."""
    found = {}
    for module, path in SOURCES.items():
        tree = ast.parse(path.read_text())
        names = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = {
                    each.name
                    for each in node.body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                }
                bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
                private = {name for name in methods if name.startswith("_") and not name.endswith("__")}
                found[module, node.name] = private, [names.get(base, (module, base)) for base in bases]
    return found


def test_nothing_overrides_a_private_method():
    known = classes()

    def inherited(name: tuple[str, str]) -> set[str]:
        private, bases = known.get(name, (set(), []))
        return private.union(*map(inherited, bases))

    wrong = {
        ".".join(name): overridden
        for name, (private, bases) in known.items()
        if (overridden := private & set().union(*map(inherited, bases)))
    }
    assert not wrong


def test_only_the_local_platform_imports_itself():
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "local"]
    assert not [path for path in files if "local" in {package(module) for module in imports_of(path)}]


@cache
def status_words() -> set[str]:
    """What platforms call the states of their jobs, except for what we call them, too."""
    found: set[str] = set()
    for path in (ROOT / "platforms").rglob("kinds.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict) and all(
                ast.unparse(value).startswith("JobState.") for value in node.values
            ):
                found |= {key.value.casefold() for key in node.keys if isinstance(key, ast.Constant)}
    own = OWN_WORDS.findall((ROOT / "jobs" / "state.py").read_text())
    return found - {*own, *OTHER_MEANINGS}


@pytest.mark.parametrize("name", GENERIC)
def test_generic_code_has_no_status_word_of_a_platform(name):
    words = status_words()
    assert {"completed", "partially completed", "deactivated", "timedout"} <= words
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
        for path in files_of(name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.casefold() in words
    ]
    assert not wrong


@pytest.mark.parametrize("name", GENERIC)
def test_generic_code_names_no_platform_and_no_private_status(name):
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files_of(name)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PLATFORM_WORDS.search(PACKAGE_NAME.sub("", line))
    ]
    assert not lines
