"""A row of which one value cannot be used: it fails, and its other values are written and can be sent again."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_lamini.rows.batch import MAX_LINE
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source
from tests.bad_input.test_inputs import sent
from tests.support.databases import CONN_ID, sqlite
from tests.support.results import rows_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from airflow_provider_lamini.rows.batch import Batch

pd = pytest.importorskip("pandas")

BATCH = "BatchInferenceOperator"
KEEP = {"on_bad_row": "error", "max_failed_rows": None, "endpoint": "completions", "passthrough": ["id", "t"]}
ROWS = [{"id": 6, "x": 0.5, "t": "a"}, {"id": 7, "x": float("nan"), "t": "b"}, {"id": 8, "x": 1.5, "t": "c"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet_of(rows: list[dict[str, object]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


FILES = {
    "JSON Lines": ("r.jsonl", LINES),
    "JSON Lines with bytes that are not UTF-8": ("r.jsonl", LINES.replace(b"NaN", b'"\xff"')),
    "a JSON array": ("r.json", json.dumps(ROWS).encode()),
    "objects that span lines": ("r.json", b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS)),
    "CSV": ("r.csv", b"id,x,t\n6,0.5,a\n7,\xff,b\n8,1.5,c\n"),
    "CSV with quotes": ("r.csv", b'id,x,t\n"6",0.5,a\n7,"\xff\n.",b\n8,1.5,c\n'),
    "Parquet": ("r.parquet", parquet_of(ROWS)),
}
LISTS = {
    "a list": ROWS,
    "a frame": pd.DataFrame({"id": [6, 7, 8], "x": [0.5, b"\xff", 1.5], "t": ["a", "b", "c"]}),
}


def check_rest(world, result) -> None:
    """The row that cannot be used has its key, and what it has can be sent in a later run."""
    written = rows_in(world.folder / "out")
    assert [(str(row["id"]), row["t"]) for row in written] == [("6", "a"), ("7", "b"), ("8", "c")]
    assert [row["error"] is None for row in written] == [True, False, True]
    assert result["counts"]["failures"] == {"bad_row": 1}
    world.reset()
    world.run(BATCH, {**KEEP, "input": result["errors"], "prompt": "again {t}", "output": "{here}/again"})
    assert sent(world) == ["again b"]
    (again,) = rows_in(world.folder / "again")
    assert (str(again["id"]), again["index"]) == ("7", 1)


@pytest.mark.parametrize("form", [*FILES, *LISTS])
def test_a_row_keeps_its_other_values(world, form):
    if form in LISTS:
        given = LISTS[form]
    else:
        name, content = FILES[form]
        given = str(world.put(name, content))
    check_rest(world, world.run(BATCH, {**KEEP, "input": given, "prompt": "{x}"}))


def test_a_row_of_a_query_keeps_its_other_values(world, tmp_path_factory, monkeypatch):
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path_factory.mktemp("database"))
    database.run("CREATE TABLE odd (id INTEGER, x BLOB, t TEXT)")
    database.fill("odd", [(6, "0.5", "a"), (7, b"\xff", "b"), (8, "1.5", "c")])
    database.connect(monkeypatch)
    query = {"input": None, "input_sql": "SELECT * FROM odd ORDER BY id", "input_conn_id": CONN_ID}
    check_rest(world, world.run(BATCH, {**KEEP, **query, "prompt": "{x}"}))


def file(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def only_batch(source: object, columns: Collection[str]) -> Batch:
    (batch,) = open_source(source, keep_bad=True).batches(columns=columns)
    return batch


def test_a_row_of_a_function_keeps_its_other_fields():
    source = FunctionInput("rows", lambda: [{"v": {"a": b"\xff", "b": 1}, "w": {1}, "t": "b"}])
    batch = only_batch(source, ["v", "w", "t"])
    assert (batch.rows[0], list(batch.bad)) == ({"v": {"b": 1}, "t": "b"}, [0])
    assert "column 'v.a' is of type bytes" in batch.bad[0].text
    for field, text in (("v.a", "column 'v.a' is of type bytes"), ("w.n", "column 'w' is of type set")):
        batch = only_batch(source, [field, "t"])
        assert batch.rows[0].get("t") == "b"
        assert text in batch.bad[0].text
    batch = only_batch(source, ["v.b", "t"])
    assert (batch.rows[0], batch.bad) == ({"v.b": 1, "t": "b"}, {})


LOST: dict[str, Callable[[], tuple[str, bytes, str]]] = {
    "a line that is not JSON": lambda: ("r.jsonl", b'{"id": 7, "t": "b"\n', "not valid JSON"),
    "a record with more values": lambda: ("r.csv", b"id,t\n7,b,c\n", "3 values, but the header names 2"),
    "a line that is too long": lambda: ("r.csv", b"id,t\n7," + b"b" * MAX_LINE + b"\n", "longer than 16 MiB"),
    "text": lambda: ("r.txt", b"\xff\n", "not valid UTF-8"),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_row_whose_values_cannot_be_told_apart_has_none(tmp_path, kind):
    name, content, reason = LOST[kind]()
    columns = ["prompt"] if kind == "text" else ["id", "t"]
    batch = only_batch(file(tmp_path, name, content), columns)
    assert set(batch.rows[0].values()) <= {None}
    assert reason in batch.bad[0].text


def test_a_value_of_several_lines_that_is_too_long_costs_no_other(tmp_path):
    long = b"\n".join([b"x" * (MAX_LINE // 2)] * 2)
    batch = only_batch(file(tmp_path, "r.csv", b'id,x,t\n7,"' + long + b'",b\n'), ["id", "x", "t"])
    assert {column: value for column, value in batch.rows[0].items() if value is not None} == {
        "id": "7",
        "t": "b",
    }
    assert "a value is longer than 16 MiB" in batch.bad[0].text
