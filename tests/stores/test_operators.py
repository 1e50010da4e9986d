"""Every operator with its files on an object store: input, output, documents, manifest, and the record under ``state_path``.

The operators, their arguments and the platforms are those of `tests.bad_input.world`, so a new operator is here, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from tests.bad_input.world import (
    VALID_ARGUMENTS,
    StrictEmissary,
    StrictPlatform,
    World,
    connection,
    operator_classes,
)
from tests.operators.test_every_operator import arguments_of
from tests.support.databases import CONN_ID, sqlite
from tests.support.scripted_platform import serving
from tests.support.stores.emulators import MOTO
from tests.support.tasks import TI, run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.stores,
    pytest.mark.parametrize("running_store", [MOTO.name], indirect=True),
]

FILES = {"input", "output", "files", "manifest", "state_path"}
"""Arguments that name files or folders."""
OPERATORS = {name: FILES & arguments_of(name) for name in VALID_ARGUMENTS if FILES & arguments_of(name)}
REPEATS = {"EvaluateClassifierOperator"}
"""Operators whose work the platform does not keep, so that a retry does it again."""
CASES = [
    pytest.param(name, deferrable, id=f"{name}, {'deferred' if deferrable else 'in place'}")
    for name in OPERATORS
    for deferrable in ((True, False) if "deferrable" in arguments_of(name) else (False,))
]
ROWS = [{"id": row, "prompt": f"row {row}", "input": f"q{row}", "output": f"row {row}"} for row in range(5)]


@pytest.fixture(scope="module")
def platforms() -> Iterator[tuple[StrictPlatform, StrictEmissary]]:
    """Platforms on which every job has ended."""
    lamini, emissary = StrictPlatform(), StrictEmissary()
    with serving(lamini), serving(emissary):
        yield lamini, emissary


@pytest.fixture
def world(runs, platforms, tmp_path, monkeypatch) -> World:
    """The platforms, and a local folder in which nothing must be written."""
    del runs  # leads the connection to another platform
    found = World(*platforms, tmp_path)
    found.reset()
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", connection(found.platform.url))
    url = found.emissary.url
    monkeypatch.setenv("AIRFLOW_CONN_EMISSARY_DEFAULT", connection(url, conn_type="emissary"))
    monkeypatch.chdir(tmp_path)
    return found


def put(runs, name: str, *rows: dict[str, Any]) -> str:
    return runs.write(name, "\n".join(map(json.dumps, rows)))


def on_store(runs, name: str) -> dict[str, object]:
    """Arguments of an operator with all of its files on the store."""
    given = {
        "input": put(runs, "rows.jsonl", *ROWS),
        "files": runs.write("docs/page.md", "A page about spam.\n").rpartition("/")[0],
        **{each: runs.emulator.uri(f"{runs.name}/{each}") for each in ("output", "state_path")},
        "manifest": runs.emulator.uri(f"{runs.name}/manifest.json"),
    }
    return VALID_ARGUMENTS[name] | {each: given[each] for each in OPERATORS[name]}


def written(runs, place: str) -> list[str]:
    """The objects under a path of the test's folder."""
    folder = OutputFolder(runs.emulator.uri(runs.name))
    folder._store._files.invalidate_cache()
    return [path for path in folder._store._files.find(folder.path) if f"/{place}" in path]


@pytest.mark.parametrize(("name", "deferrable"), CASES)
def test_an_operator_keeps_all_of_its_files_on_a_store(runs, world, tmp_path, name, deferrable):
    arguments = on_store(runs, name)
    if "deferrable" in arguments_of(name):
        arguments |= {"deferrable": deferrable, "poll_interval": 0.1}

    def make() -> Any:
        return operator_classes()[name](task_id="task", **arguments)

    first = run_to_end(make)
    assert bool(first.deferrals) <= deferrable
    # With a manifest, the record of a submission is in it.
    places = {"manifest"} if "manifest" in arguments else OPERATORS[name] & {"output", "state_path"}
    for place in places:
        assert written(runs, place), f"nothing is in {place}"
    work = world.work
    again = run_to_end(make, TI.retried())
    assert name in REPEATS or world.work == work
    assert again.result.keys() == first.result.keys()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("world")
def test_rows_of_a_query_go_to_a_store_and_its_results_into_a_table(runs, tmp_path, monkeypatch):
    database = sqlite(tmp_path)
    database.run(
        "CREATE TABLE tickets (id INTEGER, body TEXT)", "CREATE TABLE answers (id INTEGER, answer TEXT)"
    )
    database.fill("tickets", [(row["id"], row["prompt"]) for row in ROWS])
    database.connect(monkeypatch)
    output = runs.emulator.uri(f"{runs.name}/out")

    def infer() -> Any:
        query = {"input_sql": "SELECT id, body FROM tickets ORDER BY id", "input_conn_id": CONN_ID}
        waiting = {"deferrable": True, "poll_interval": 0.1}
        return LaminiBatchInferenceOperator(
            task_id="infer",
            prompt="{body}",
            passthrough=["id"],
            model_name="m",
            output=output,
            chunk_size=2,
            **query,
            **waiting,
        )

    def load() -> Any:
        columns = {"id": "id", "answer": "output"}
        return ResultsToTableOperator(
            task_id="load", results=output, table="answers", conn_id=CONN_ID, columns=columns, key=None
        )

    assert run_to_end(infer).deferrals
    assert [row["output"] for row in read_outputs(output)] == [row["prompt"] for row in ROWS]
    for ti in (TI, TI.retried()):
        run_to_end(load, ti)
        assert database.rows("SELECT id, answer FROM answers ORDER BY id") == [
            (row["id"], row["prompt"]) for row in ROWS
        ]


@pytest.mark.usefixtures("world")
def test_a_refresh_finds_the_manifest_of_the_run_before_and_changed_documents_on_a_store(runs):
    arguments = on_store(runs, "MemoryRagRefreshOperator")

    def refresh() -> Any:
        return LaminiMemoryRagRefreshOperator(task_id="refresh", **arguments)

    tomorrow = replace(TI, run_id="run-2")
    assert run_to_end(refresh).result["action"] == "built"
    assert run_to_end(refresh, tomorrow).result["action"] == "unchanged"
    runs.write("docs/page.md", "Another page about spam.\n")
    changed = run_to_end(refresh, replace(TI, run_id="run-3")).result
    assert (changed["action"], changed["changed"]) == ("rebuilt", 1)
