"""Rows out of a database, and results into a table of it, with SQLite and with a real PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from airflow_provider_lamini.rows.sources.sql import SqlInput
from airflow_provider_lamini.runs import table_load
from tests.support.databases import CONN_ID, postgres, postgres_binaries, sqlite
from tests.support.platforms import posts, submissions
from tests.support.tasks import WAITING, begin, log_lines, maker, run_to_end
from tests.support.upstream import TEXT_MODEL, text_for

pytest.importorskip("airflow.providers.sqlite")
QUERY = "SELECT id, body FROM tickets WHERE day = {mark} ORDER BY id"
DAY = "2026-01-02"
COUNT = 25
BODIES = [f"ticket {number} is late" for number in range(COUNT)]


@pytest.fixture(scope="module")
def postgres_server():
    pytest.importorskip("airflow.providers.postgres")
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.stack)])
def database(request, tmp_path, monkeypatch):
    """A database with 25 tickets of one day, and others."""
    found = sqlite(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    found.run("DROP TABLE IF EXISTS tickets", "CREATE TABLE tickets (id INTEGER, day VARCHAR(10), body TEXT)")
    found.run("DROP TABLE IF EXISTS airflow_loaded_results", "DROP TABLE IF EXISTS answers")
    found.run("CREATE TABLE answers (ticket_id VARCHAR(20) PRIMARY KEY, answer TEXT, raw TEXT)")
    # Not in the order of their ids.
    found.fill("tickets", [(number, DAY, BODIES[number]) for number in reversed(range(COUNT))])
    found.fill("tickets", [(100, "2026-01-01", "old")])
    found.connect(monkeypatch)
    return found


@pytest.fixture
def from_query(inference, database):
    """Batch inference over the tickets of the day."""
    return lambda **changes: inference(
        **{
            "input": None,
            "input_sql": QUERY.format(mark=database.mark),
            "sql_parameters": [DAY],
            "input_conn_id": CONN_ID,
            "prompt": "{body}",
            "passthrough": ["id"],
        }
        | changes
    )


def outputs(rows):
    return [(row["id"], row["output"]) for row in rows()]


EXPECTED = [(number, text_for(body)) for number, body in enumerate(BODIES)]


@pytest.mark.parametrize("endpoint", ["batch", "chat"])
def test_the_rows_of_a_query_are_sent_in_its_order(from_query, rows, out, endpoint):
    result = run_to_end(from_query(endpoint=endpoint)).result
    assert outputs(rows) == EXPECTED
    assert result["input"].startswith("the query on the connection warehouse")
    assert not (out / "_work").exists()


def test_each_try_reads_the_rows_that_the_first_one_has_read(platform, from_query, database, rows):
    def change(_):
        database.run("DELETE FROM tickets WHERE id < 5", "UPDATE tickets SET body = 'changed'")

    ended = run_to_end(from_query(max_in_flight=1), while_deferred=change)
    assert ended.deferrals
    assert outputs(rows) == EXPECTED
    assert submissions(platform) == 3


@pytest.mark.parametrize("ends", [True, False])
def test_a_run_on_a_sample_of_a_query_goes_on_with_all_rows(platform, from_query, rows, out, ends):
    sample = from_query(limit_rows=3, chunk_size=2)
    if ends:
        run_to_end(sample)
        assert outputs(rows) == EXPECTED[:3]
    else:
        begin(sample)
        (kept,) = out.glob("_work/rows-*")
        assert [json.loads(line)["id"] for line in kept.read_text().splitlines()] == [0, 1, 2]
    run_to_end(from_query(chunk_size=2, max_in_flight=30, on_changed_input="extend"))
    assert outputs(rows) == EXPECTED
    assert submissions(platform) == 2 + 11
    assert not (out / "_work").exists()


def test_a_cleared_run_of_the_same_rows_sends_nothing(platform, from_query, out):
    run_to_end(from_query())
    sent = dict(posts(platform))
    assert run_to_end(from_query()).result["counts"]["ok"] == COUNT
    assert posts(platform) == sent
    assert not (out / "_work").exists()


@pytest.mark.parametrize(
    "change", ["UPDATE tickets SET body = 'x' WHERE id = 7", "DELETE FROM tickets WHERE id = 7"]
)
def test_a_cleared_run_of_other_rows_is_refused(platform, from_query, database, change):
    run_to_end(from_query())
    sent = dict(posts(platform))
    database.run(change)
    with pytest.raises(InvalidArgumentError, match="input"):
        run_to_end(from_query())
    assert posts(platform) == sent


def test_a_query_with_other_bounds_is_another_input(platform, from_query):
    run_to_end(from_query())
    sent = dict(posts(platform))
    with pytest.raises(InvalidArgumentError, match="input"):
        run_to_end(from_query(sql_parameters=["2026-01-01"]))
    assert posts(platform) == sent


def test_after_a_bad_row_the_corrected_rows_are_read(from_query, database, rows):
    database.run("UPDATE tickets SET body = NULL WHERE id = 3")
    with pytest.raises(InvalidArgumentError, match="has no value in the column 'body'"):
        run_to_end(from_query())
    database.run("UPDATE tickets SET body = 'ticket 3 is late' WHERE id = 3")
    run_to_end(from_query())
    assert outputs(rows) == EXPECTED


def test_a_dry_run_of_a_query_writes_nothing(platform, from_query, out):
    assert run_to_end(from_query(dry_run=True)).result["rows"] == COUNT
    assert posts(platform) == {}
    assert not out.exists()


def test_a_query_without_rows_is_a_success_of_no_rows(platform, from_query):
    assert run_to_end(from_query(sql_parameters=["1999-01-01"])).result["counts"]["rows"] == 0
    assert posts(platform) == {}


def test_types_of_a_database_become_json(inference, database, rows, engine):  # noqa: ARG001 - the connection leads there
    timestamp = "TIMESTAMP '2026-01-02 03:04:05'" if database.mark == "%s" else "'2026-01-02T03:04:05'"
    day = "DATE '2026-01-02'" if database.mark == "%s" else "'2026-01-02'"
    number = "CAST('12.50' AS NUMERIC(8, 2))" if database.mark == "%s" else "'12.50'"
    sql = f"SELECT 'a' AS prompt, {timestamp} AS moment, {day} AS day, {number} AS price, NULL AS none ORDER BY 1"
    columns = ["moment", "day", "price", "none"]
    run_to_end(inference(input=None, input_sql=sql, input_conn_id=CONN_ID, passthrough=columns))
    assert {name: rows()[0][name] for name in columns} == {
        "moment": "2026-01-02T03:04:05",
        "day": "2026-01-02",
        "price": "12.50",
        "none": None,
    }


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE a IN (SELECT b FROM u) ORDER BY lower(id), (id) DESC LIMIT 5",
        "(SELECT * FROM t ORDER BY id)",
        "( (SELECT f(a) FROM t\norder\tby id) ) -- the end",
        "(SELECT a FROM t) UNION ALL (SELECT a FROM u) ORDER BY a",
        "WITH t AS (SELECT 1 AS a) SELECT a, row_number() OVER (ORDER BY a) FROM t ORDER BY a",
        "SELECT 'a -- b', '(', ';', 'drop' FROM t ORDER BY id;",
        "/* all; of them */ SELECT `a (` FROM t ORDER /* really */ BY id",
        "VALUES (1), (2) ORDER BY 1",
    ],
)
def test_a_query_is_ordered_outside_of_its_parentheses(sql):
    assert SqlInput.of(sql, None, CONN_ID).sql == sql.removesuffix(";")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_sql": "SELECT 1 AS prompt"}, "input_sql needs ORDER BY"),
        ({"input_sql": "SELECT '-- ORDER BY' AS prompt /* ORDER BY */"}, "input_sql needs ORDER BY"),
        (
            {"input_sql": "SELECT count(*) OVER (ORDER BY id) AS n, body FROM tickets"},
            "with a unique key, outside of parentheses",
        ),
        (
            {"input_sql": "(SELECT * FROM (SELECT * FROM tickets ORDER BY id) AS t)"},
            "input_sql needs ORDER BY",
        ),
        ({"input_sql": 'SELECT body AS "order by" FROM tickets'}, "input_sql needs ORDER BY"),
        ({"input_sql": "DELETE FROM tickets"}, "only reads"),
        ({"input_sql": "SELECT 1 ORDER BY 1; DROP TABLE tickets"}, "only reads"),
        (
            {"input_sql": "WITH gone AS (DELETE FROM tickets RETURNING id) SELECT * FROM gone ORDER BY id"},
            "only reads",
        ),
        ({"input_sql": ""}, "input_sql must be a text"),
        ({"input_sql": 5}, "input_sql must be a text"),
        (
            {"input_sql": "SELECT id, id, body FROM tickets ORDER BY body", "sql_parameters": None},
            "column 'id' is in the query more than once. Use AS",
        ),
        ({"sql_parameters": DAY}, "sql_parameters must be a mapping or a list"),
        ({"input_conn_id": None}, "input_sql needs input_conn_id"),
        ({"input_conn_id": "lamini_default"}, "is not that of a database"),
        ({"input_conn_id": "nowhere"}, "There is no connection 'nowhere'"),
        ({"input": ["a"]}, "input and input_sql exclude each other"),
        ({"input_sql": None, "sql_parameters": None}, "input or input_sql is required"),
        ({"input_sql": None, "input": ["a"]}, "sql_parameters needs input_sql"),
        ({"prompt": "{nobody}"}, "no column 'nobody'"),
    ],
)
def test_a_wrong_query_is_refused_before_anything_is_sent(platform, from_query, arguments, message):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(from_query(**arguments))
    assert message in str(caught.value)
    assert posts(platform) == {}


def test_a_repeated_column_that_is_not_used_does_not_matter(from_query, rows):
    sql = f"SELECT day, day, id, body FROM tickets WHERE day = '{DAY}' ORDER BY id"
    run_to_end(from_query(input_sql=sql, sql_parameters=None))
    assert [row["id"] for row in rows()] == list(range(COUNT))


def test_the_query_may_be_in_a_file_beside_the_dag(from_query, rows, tmp_path, database):
    from airflow.providers.common.compat.sdk import DAG

    (tmp_path / "tickets.sql").write_text(QUERY.format(mark=database.mark) + ";\n")
    with DAG("tickets", schedule=None, template_searchpath=str(tmp_path)):
        task = from_query(input_sql="tickets.sql")()
    task.resolve_template_files()
    assert task.input_sql.startswith("SELECT id, body")
    assert task.template_fields_renderers["input_sql"] == "sql"
    del rows


def test_an_evaluation_reads_a_query_once(platform, database, out):  # noqa: ARG001 - the connections lead there
    task = maker(
        LaminiEvaluateOperator,
        task_id="evaluate",
        input_sql="SELECT id, body AS input, body AS output FROM tickets WHERE id < 10 ORDER BY id",
        input_conn_id=CONN_ID,
        model_name=TEXT_MODEL,
        base_model_name=TEXT_MODEL,
        output=str(out),
        chunk_size=5,
        **WAITING,
    )
    with log_lines() as logged:
        ended = run_to_end(
            task(), while_deferred=lambda _: database.run("UPDATE tickets SET body = 'changed'")
        )
    validated = [text for text in logged if text.startswith("Validated")]
    assert len(validated) == 2
    assert all("the query on the connection warehouse" in text for text in validated)
    assert not any("_work" in text for text in validated)
    assert ended.result["rows"] == 10
    assert not list(out.glob("_work/rows-*"))


BIG = """
import resource, sys
from contextlib import closing
from airflow_provider_lamini.rows.sources.sql import SqlInput, database_connection, read_records

query = SqlInput.of(sys.argv[1], None, "warehouse")
with closing(database_connection("warehouse")[1]) as connection:
    blocks = read_records(connection, query)
    next(blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = 1000 + sum(map(len, blocks))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.any_airflow
@pytest.mark.long
def test_memory_does_not_depend_on_the_number_of_rows(database):
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i, {text} AS body FROM n"
    text = "repeat('x', 300)" if database.mark == "%s" else "printf('%0300d', i)"
    done = subprocess.run(
        [sys.executable, "-c", BIG, f"{numbers.format(text=text)} ORDER BY i"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
    rows, megabytes = map(int, done.stdout.splitlines()[-1].split())  # Airflow 2.11 logs lines before
    assert rows == 300_000
    assert megabytes < 50  # all rows together are 90 MB, and several times that as Python objects


# -- results into a table


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Where the first test leaves the results of its run, which are those of all."""
    return tmp_path_factory.mktemp("results") / "out"


@pytest.fixture
def load(database, from_query, out, results):  # noqa: ARG001 - the connection leads there
    """Loads the results of the run, which has ended."""
    if results.exists():
        shutil.copytree(results, out)
    else:
        run_to_end(from_query())
        shutil.copytree(out, results)
    return maker(
        ResultsToTableOperator,
        task_id="load",
        results=str(out),
        conn_id=CONN_ID,
        table="answers",
        columns={"ticket_id": "id", "answer": "output", "raw": "finish_reason"},
        key=["ticket_id"],
        chunk_size=4,
    )


LOADED = sorted((str(number), text_for(body), "stop") for number, body in enumerate(BODIES))


def answers(database):
    return sorted(database.rows("SELECT ticket_id, answer, raw FROM answers"))


def test_results_are_loaded_by_their_key(load, database):
    database.fill("answers", [("3", "yesterday's", None), ("other", "stays", None)])
    counts = {"rows": COUNT, "loaded": COUNT, "skipped": 0, "repeated": 0}
    assert run_to_end(load()).result == {"table": "answers", **counts}
    assert answers(database) == sorted([*LOADED, ("other", "stays", None)], key=str)


@pytest.mark.parametrize("chunk_size", [4, 3])
def test_rows_of_a_chunk_with_the_same_key_are_counted(inference, load, database, out, chunk_size):
    ids, repeated = [1, 1, 2, 1], chunk_size - 2
    rows = [{"id": number, "prompt": f"row {position}"} for position, number in enumerate(ids)]
    run_to_end(
        inference(input=rows, passthrough=["id"], prompt="prompt", input_sql=None, output=str(out / "b"))
    )
    with log_lines() as logged:
        result = run_to_end(load(results=str(out / "b"), chunk_size=chunk_size)).result
    assert (result["rows"], result["loaded"], result["repeated"]) == (4, 4 - repeated, repeated)
    assert any("whose key (ticket_id) a later row has" in line for line in logged)
    assert answers(database) == [("1", text_for("row 3"), "stop"), ("2", text_for("row 2"), "stop")]


def test_results_are_loaded_once(load, database):
    run_to_end(load())
    database.run("DELETE FROM answers WHERE ticket_id = '7'")
    assert run_to_end(load(chunk_size=10)).result["loaded"] == 0
    assert run_to_end(load(reload=True)).result["loaded"] == COUNT
    assert answers(database) == LOADED


def test_results_that_replace_others_are_loaded_anew(load, from_query, database):
    run_to_end(load())
    database.run("UPDATE tickets SET body = 'another body' WHERE id = 7")
    run_to_end(from_query(on_other_run="replace"))
    assert run_to_end(load()).result["loaded"] == COUNT
    assert ("7", text_for("another body"), "stop") in answers(database)


def test_rows_are_appended_once_without_a_key(load, database):
    database.run("DROP TABLE answers", "CREATE TABLE answers (ticket_id VARCHAR(20), answer TEXT, raw TEXT)")
    run_to_end(load(key=None))
    run_to_end(load(key=None))
    assert answers(database) == LOADED


class DiedError(BaseException):
    """A process that dies."""


def test_rows_without_a_key_are_not_loaded_again(load, database):
    run_to_end(load(key=None))
    with pytest.raises(InvalidArgumentError, match="reload needs key"):
        run_to_end(load(key=None, reload=True))
    assert answers(database) == LOADED


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("how", [{"key": None}, {}, {"reload": True}])
def test_each_row_is_in_the_table_once_after_a_crash_at_any_step(load, database, monkeypatch, step, how):
    database.run("DROP TABLE answers", "CREATE TABLE answers (ticket_id VARCHAR(20), answer TEXT, raw TEXT)")
    replace, calls = table_load._Table.replace, []

    def die(self, rows):
        calls.append(rows)
        if len(calls) == 1 + step // 2 and step % 2 == 0:
            raise DiedError  # after the record was changed, before the rows are there
        inserted = replace(self, rows)
        if len(calls) == 1 + step // 2:
            raise DiedError  # both are there, but not committed
        return inserted

    with monkeypatch.context() as patch:
        patch.setattr(table_load._Table, "replace", die)
        with pytest.raises(DiedError):
            run_to_end(load(**how))
    assert len(answers(database)) == 4 * (step // 2)
    result = run_to_end(load(**how, chunk_size=7)).result
    assert result["loaded"] == COUNT - (0 if "reload" in how else 4 * (step // 2))
    assert answers(database) == LOADED


def test_a_second_try_that_is_alive_loads_nothing_twice(load, database, monkeypatch):
    """The first one stops as soon as the second one has overtaken it."""
    calls = []
    begin = table_load._Record.begin

    def begin_both(self):
        done = begin(self)
        if not calls:
            calls.append("second")
            run_to_end(load())
        return done

    monkeypatch.setattr(table_load._Record, "begin", begin_both)
    with pytest.raises(StorageError, match="another try of this one"):
        run_to_end(load())
    assert answers(database) == LOADED


KILLED = """
import os, sys
from airflow_provider_lamini.runs import table_load
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator

replace, calls = table_load._Table.replace, []


def die(self, rows):
    inserted = replace(self, rows)
    calls.append(rows)
    if len(calls) == 3:
        os.kill(os.getpid(), 9)
    return inserted


table_load._Table.replace = die
ResultsToTableOperator(
    task_id="load", results=sys.argv[1], conn_id="warehouse", table="answers", key=None, chunk_size=4,
    columns={"ticket_id": "id", "answer": "output", "raw": "finish_reason"},
).execute({})
"""


def test_an_error_of_the_driver_says_what_is_loaded(load, database):
    with pytest.raises(
        InvalidArgumentError, match=r"refuses to load results into missing: .*missing.*no row is in the"
    ):
        run_to_end(load(table="missing"))
    with pytest.raises(InvalidArgumentError, match=r"refuses to load results into answers: .*nothing"):
        run_to_end(load(columns={"ticket_id": "id", "nothing": "output"}))
    assert database.rows("SELECT * FROM answers") == []
    database.run("INSERT INTO answers VALUES ('5', 'other', 'x')")
    with pytest.raises(InvalidArgumentError, match="refuses to load results into answers"):
        run_to_end(load(key=None))
    assert len(database.rows("SELECT * FROM answers")) == 5  # the first chunk of four rows, and that row


def test_a_name_that_needs_quotes_is_refused_with_the_reason(load):
    with pytest.raises(InvalidArgumentError, match="rename the column, or load into a view"):
        run_to_end(load(columns={"ticket_id": "id", "Größe (cm)": "output"}))


@pytest.mark.any_airflow
@pytest.mark.long
def test_each_row_is_in_the_table_once_after_a_kill(load, database, out):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out)],
        capture_output=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
    assert done.returncode == -9, done.stderr
    assert len(answers(database)) == 8
    run_to_end(load(key=None))
    assert answers(database) == LOADED


def test_failed_rows_are_left_out_or_loaded(load, from_query, database):
    run_to_end(from_query(check=lambda text: "7" not in text, max_failed_rows=None, on_other_run="replace"))
    result = run_to_end(load()).result
    assert (result["loaded"], result["skipped"]) == (COUNT - 2, 2)
    assert answers(database) == [row for row in LOADED if "7" not in row[0]]
    columns = {"ticket_id": "id", "answer": "output", "raw": "error"}
    result = run_to_end(load(failed_rows="load", columns=columns)).result
    assert (result["loaded"], result["skipped"]) == (COUNT, 0)
    assert ("17", None, "the check did not accept the answer") in answers(database)


def test_objects_become_json_and_their_fields_can_be_loaded(inference, database, out):
    kind = {"mood": ["good"], "n": "int"}
    run_to_end(inference(input=[{"id": 1, "prompt": "a"}], passthrough=["id"], output_type=kind))
    load = maker(
        ResultsToTableOperator,
        task_id="load",
        results={"output": str(out)},
        conn_id=CONN_ID,
        table="answers",
        key=None,
    )
    run_to_end(load(columns={"ticket_id": "id", "answer": "output.mood", "raw": "output"}))
    ((ticket, mood, raw),) = answers(database)
    assert (ticket, mood, json.loads(raw)["mood"]) == ("1", "good", "good")
    with pytest.raises(InvalidArgumentError, match=r"row 0 has no field 'output\.none'"):
        run_to_end(load(columns={"answer": "output.none"}))
    with pytest.raises(
        InvalidArgumentError, match=r"the results have no field 'none'\. They have index, id, output"
    ):
        run_to_end(load(columns={"answer": "none"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": "answers; DROP TABLE x"}, "table must be the name of a table"),
        ({"table": None}, "table must be the name of a table"),
        ({"columns": []}, "columns is empty"),
        ({"columns": "id"}, "columns must be a list"),
        ({"columns": ["a b"]}, "columns has 'a b'"),
        ({"columns": {"answer": ""}}, "columns: the field of answer"),
        ({"key": ["other"]}, "key has 'other', which is not one of columns"),
        ({"key": "ticket_id"}, "key must be a list"),
        ({"results": None}, "results must be the output folder"),
        ({"results": {"parts": []}}, "results must be the output folder"),
        ({"results": "/nowhere/at/all"}, "has no manifest.json"),
        ({"conn_id": "lamini_default"}, "is not that of a database"),
        ({"failed_rows": "maybe"}, "failed_rows must be one of"),
        ({"chunk_size": 0}, "chunk_size must be"),
        ({"record_table": "a-b"}, "record_table must be"),
    ],
)
def test_a_wrong_argument_loads_nothing(load, database, arguments, message):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(load(**arguments))
    assert message in str(caught.value)
    assert answers(database) == []


@pytest.mark.stack
def test_postgres_is_there():
    """Otherwise the tests above would have been skipped."""
    assert postgres_binaries() is not None
