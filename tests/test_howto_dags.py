"""The Dags of the how-to pages, run by Airflow."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_input.world import StrictPlatform
from tests.operators.conftest import load_dags  # noqa: F401 - a fixture
from tests.support.demo import EXAMPLES
from tests.support.emissary_platform import emissary  # noqa: F401 - a fixture
from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.platforms import connect as connect_local
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures
from tests.support.results import rows_in
from tests.support.scripted_platform import serving
from tests.support.tuning_platform import connect
from tests.support.upstream import TEXT_MODEL, upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

OTHER_MODEL = "test/other"
TICKETS = [
    {"ticket_id": number, "subject": f"{word} {number}", "category": word}
    for number, word in enumerate(["billing", "login", "billing", "login"])
]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictPlatform]:
    """A platform whose models repeat their prompts. ``lamini_default`` points to it."""
    scripted = StrictPlatform()
    with serving(scripted):
        connect(monkeypatch, scripted)
        yield scripted


@pytest.fixture
def two_models(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalPlatform]:
    """A local platform with two models. ``lamini_default`` points to it."""
    folder = tmp_path_factory.mktemp("two-models")
    with upstream(more_models=(OTHER_MODEL,)) as two, local_platform(folder, two.url) as running:
        connect_local(monkeypatch, running)
        yield running


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, list[dict[str, object]]], None]:
    """Returns a function that writes rows into a file of the data folder."""

    def to_file(name: str, rows: list[dict[str, object]]) -> None:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return to_file


@pytest.fixture
def run(
    load_dags: Callable[[Path], dict[str, Any]],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, str]]:
    """Returns a function that runs the Dag of a file in this process, and returns its tasks' states."""
    monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", str(tmp_path / "state"))

    def to_end(name: str, **conf: object) -> dict[str, str]:
        dag = load_dags(EXAMPLES / "howto" / f"{name}.py")["dag"]
        for task in dag.tasks:
            assert task.retries
            task.retries = 0  # a failure must not wait for its retry
        ended = dag.test(run_conf={"data": str(tmp_path), **conf})
        return {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}

    return to_end


@pytest.mark.usefixtures("platform")
def test_inference(run, write, tmp_path, monkeypatch):
    write("reviews/one.jsonl", [{"review_id": number, "body": f"good {number}"} for number in range(5)])
    database = tmp_path / "warehouse.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table reviews (review_id integer primary key, positive integer)")
    warehouse = {"conn_type": "sqlite", "host": str(database)}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
    states = run("inference", model=TEXT_MODEL)
    assert set(states.values()) == {"success"}, states
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*), count(positive) from reviews").fetchone() == (5, 5)
    assert len(list(tmp_path.glob("vectors/*/*.parquet"))) == 1


@pytest.mark.parametrize("failing", [set(), {20}])
def test_failed_rows(run, write, two_models, tmp_path, failing):
    write("reviews/one.jsonl", [{"review_id": number, "body": f"good {number}"} for number in range(21)])
    for number in failing:  # until the first model has no retry left
        two_models.control.row_fault(f"good {number}", times=3)
    states = run("failed_rows", model=TEXT_MODEL, other_model=OTHER_MODEL)
    assert set(states.values()) == {"success"}, states
    rows = rows_in(tmp_path, "combined-*.jsonl")
    assert [(row["index"], row["review_id"], row["error"]) for row in rows] == [
        (n, n, None) for n in range(21)
    ]
    assert all(f"{row['review_id']} good" in row["output"] for row in rows)
    models = {row["index"]: row["model"] for row in rows}
    assert models == {n: OTHER_MODEL if n in failing else TEXT_MODEL for n in range(21)}


def test_tuning(run, write, strict):
    for name in ("labelled/one.jsonl", "held-out.jsonl"):
        write(name, TICKETS)
    strict.downloads["base"] = ["requested", "available"]
    states = run("tuning", model="base")
    assert states.pop("evaluate") == "skipped", "the tuned model repeats its prompts like the base model"
    assert set(states.values()) == {"success"}, states


@pytest.mark.usefixtures("platform")
def test_memory_rag(run, write, tmp_path):
    for folder in ("contracts", "handbook"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.md").write_text("Parcels can be returned within 30 days.")
    write("questions/one.jsonl", [{"question_id": 7, "question": "How long?"}])
    states = run("memory_rag", model=TEXT_MODEL)
    assert set(states.values()) == {"success"}, states
    (row,) = rows_in(tmp_path, "answers/*/part-*.jsonl")
    assert row["question_id"] == 7


@pytest.mark.usefixtures("platform")
def test_classifiers(run, write, tmp_path):
    for name in ("labelled/one.jsonl", "held-out.jsonl", "new/one.jsonl"):
        write(name, TICKETS)
    states = run("classifiers", model=TEXT_MODEL)
    assert set(states.values()) == {"success"}, states
    assert [row["ticket_id"] for row in rows_in(tmp_path, "sorted/*/part-*.jsonl")] == [0, 1, 2, 3]


@pytest.mark.usefixtures("strict")
def test_jobs(run, write):
    write("labelled/one.jsonl", TICKETS)
    states = run("jobs", model="base")
    assert states.pop("cancel") == "skipped", "nothing has failed"
    assert set(states.values()) == {"success"}, states


def test_emissary_training(run, write, emissary):  # noqa: F811
    write("labelled/one.jsonl", TICKETS)
    emissary.functions = ["exact_match"]  # as the local platform has it
    emissary.checkpoints = [
        {"checkpoint": 100, "test_results": {"aggregated_test_result": {"exact_match": "0.75"}}}
    ]
    states = run("emissary_training", model="base")
    assert set(states.values()) == {"success"}, states
    assert list(emissary.projects) == ["ms-1"]


def test_emissary_serving(run, write, emissary):  # noqa: F811
    write("new/one.jsonl", TICKETS)
    emissary.new("training", ("Success",), name="job")
    states = run("emissary_serving", model="base")
    assert set(states.values()) == {"success"}, states
    assert not emissary.deployments
    assert not emissary.engines
