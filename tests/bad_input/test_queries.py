"""Every operator that takes rows also takes a query."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from tests.bad_input.world import VALID_ARGUMENTS
from tests.support.databases import CONN_ID, sqlite
from tests.support.tasks import TI, run_to_end

pytest.importorskip("airflow.providers.sqlite")

ROWS = [("spam", "buy this"), ("ham", "a letter")]
QUERY = """
SELECT body AS prompt, body AS input, kind AS output, body AS text, kind AS class FROM mails ORDER BY kind DESC
"""
TAKING_ROWS = sorted(name for name, given in VALID_ARGUMENTS.items() if {"input", "examples"} & set(given))


@pytest.fixture
def database(tmp_path_factory, monkeypatch):
    found = sqlite(tmp_path_factory.mktemp("database"))
    found.run("CREATE TABLE mails (kind TEXT, body TEXT)")
    found.fill("mails", ROWS)
    found.connect(monkeypatch)
    return found


def arguments_for(name, **more):
    given = "examples" if "examples" in VALID_ARGUMENTS[name] else "input"
    return {given: None, "input_sql": QUERY, "input_conn_id": CONN_ID} | more


@pytest.mark.parametrize("name", TAKING_ROWS)
def test_the_rows_of_a_query_are_sent(world, database, name):  # noqa: ARG001 - the connection leads there
    world.run(name, arguments_for(name))
    assert world.work
    sent = json.dumps([world.platform.bodies, world.emissary.bodies], default=str)
    assert all(body in sent for _, body in ROWS)


@pytest.mark.parametrize("name", TAKING_ROWS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_sql": "SELECT body AS prompt FROM mails"}, "needs ORDER BY"),
        ({"input_sql": "DELETE FROM mails"}, "only reads"),
        ({"input_conn_id": None}, "input_sql needs input_conn_id"),
        ({"input_conn_id": "lamini_default"}, "is not that of a database"),
        ({"sql_parameters": 5}, "sql_parameters must be a mapping or a list"),
        ({"input_sql": None, "sql_parameters": [5]}, "sql_parameters needs input_sql"),
    ],
)
def test_a_wrong_query_is_rejected_before_anything_is_sent(world, database, name, arguments, message):  # noqa: ARG001
    with pytest.raises(InvalidArgumentError) as caught:
        world.run(name, arguments_for(name, **arguments))
    assert message in str(caught.value)
    assert world.work == {}


@pytest.mark.parametrize("name", TAKING_ROWS)
@pytest.mark.parametrize(
    ("query", "parameters", "message"),
    [
        ("SELECT body AS prompt FROM mail ORDER BY kind", None, "no such table: mail"),
        ("SELECT bodies AS prompt FROM mails ORDER BY kind", None, "no such column: bodies"),
        ("SELECT body AS AS prompt FROM mails ORDER BY kind", None, "syntax error"),
        ("SELECT shorten(body) AS prompt FROM mails ORDER BY kind", None, "no such function: shorten"),
        ("SELECT body AS prompt FROM mails WHERE kind = ? ORDER BY kind", [1, 2], "number of bindings"),
        ("SELECT body AS prompt FROM mails WHERE kind = :kind ORDER BY kind", {"other": 1}, "binding"),
    ],
)
def test_what_the_database_refuses_is_one_clear_error(world, database, name, query, parameters, message):  # noqa: PLR0917
    del database  # the connection leads there
    with pytest.raises(InvalidArgumentError) as caught:
        world.run(name, arguments_for(name, input_sql=query, sql_parameters=parameters))
    text = str(caught.value)
    assert "The database refuses the query on the connection warehouse: " in text
    assert message in text
    assert caught.value.__cause__ is None
    assert world.work == {}


@pytest.mark.parametrize("name", TAKING_ROWS)
def test_a_database_that_is_gone_is_worth_a_retry(world, database, monkeypatch, name):
    gone = database.connection | {"host": "/nowhere/warehouse.db"}
    replace(database, connection=gone).connect(monkeypatch)
    with pytest.raises(StorageError, match=r"cannot be reached.*Nothing was sent\. A retry reads it again"):
        world.run(name, arguments_for(name))
    assert world.work == {}


@pytest.mark.long
def test_a_locked_database_is_worth_a_retry(world, database):
    """Airflow's hook waits for the lock for five seconds."""
    with closing(database.open()) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            StorageError, match=r"database is locked.*Nothing was sent\. A retry reads it again"
        ):
            world.run("EmbeddingOperator", arguments_for("EmbeddingOperator"))
    assert world.work == {}


def test_text_that_is_not_utf8_concerns_its_row(world, database):
    database.run("INSERT INTO mails VALUES ('ham', CAST(x'61ff' AS TEXT))")
    world.run("EmbeddingOperator", arguments_for("EmbeddingOperator", on_bad_row="error", max_failed_rows=1))
    assert all(body in json.dumps(world.platform.bodies) for _, body in ROWS)


@pytest.mark.parametrize("name", TAKING_ROWS)
def test_rows_and_a_query_exclude_each_other(world, database, name):  # noqa: ARG001
    both = arguments_for(name)
    given = next(iter(both))
    with pytest.raises(InvalidArgumentError, match=f"{given} and input_sql exclude each other"):
        world.run(name, both | {given: VALID_ARGUMENTS[name][given]})
    assert world.work == {}


@pytest.mark.parametrize(
    "name",
    [
        "BatchInferenceOperator",
        "EmbeddingOperator",
        "ClassifyOperator",
        "UploadDatasetOperator",
        "TrainOperator",
    ],
)
@pytest.mark.parametrize("used", [False, True])
def test_a_value_that_json_lacks_makes_a_bad_row_only_where_its_column_is_used(world, database, name, used):
    database.run("CREATE TABLE odd (id INTEGER, body TEXT, x BLOB)")
    database.fill("odd", [(1, "first", b"a"), (2, "second", b"\xff"), (3, "third", None)])
    text = "CASE id WHEN 1 THEN body ELSE x END" if used else "body"
    query = (
        f"SELECT id, x, {text} AS prompt, {text} AS input, 'that' AS output FROM odd WHERE id < 3 ORDER BY id"
    )
    arguments = arguments_for(name, input_sql=query, on_bad_row="error", max_failed_rows=None)
    if name == "TrainOperator":
        arguments["deferrable"] = True
    world.run(name, arguments)
    sent = json.dumps(world.platform.bodies, default=str)
    assert "first" in sent
    assert ("second" in sent) is not used


def test_an_evaluation_in_the_folder_of_another_task_reads_no_query(world, database):
    arguments = arguments_for("EvaluateOperator", endpoint="completions")
    run_to_end(lambda: world.make("EvaluateOperator", arguments))
    database.run("DROP TABLE mails")
    with pytest.raises(InvalidArgumentError, match="was taken by dag nightly, task infer,"):
        run_to_end(lambda: world.make("EvaluateOperator", arguments), replace(TI, task_id="other"))
    assert not list(world.folder.glob("out/_work/*"))
