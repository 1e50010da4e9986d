"""A sample of the first rows does not depend on what the rows after them hold."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.read_once import FirstRows
from airflow_provider_lamini.rows.sources.source import open_source
from tests.bad_input.test_inputs import sent
from tests.support.databases import CONN_ID, failing_query, sqlite
from tests.support.results import rows_in

BATCH = "BatchInferenceOperator"


def of_columns(**columns) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


GOOD = b'{"prompt": "a"}\n'
FILES = {
    "a broken line": ("r.jsonl", GOOD + b"x\n", "line 2: not valid JSON"),
    "a row without the prompt": ("r.jsonl", GOOD + b'{"other": 1}\n', "line 2"),
    "a blank prompt": ("r.jsonl", GOOD + b'{"prompt": " "}\n', "line 2"),
    "a broken element": ("r.json", b'[{"prompt": "a"},\n{"prompt": NaN}]', "line 2"),
    "a record that is too long": ("r.csv", b"prompt,id\na,1\nb,2,3\n", "line 3: 3 values"),
    "bytes that are not text": ("r.parquet", of_columns(prompt=[b"a", b"\xff"]), "row 1 .*not valid UTF-8"),
}
LISTS = {
    "None": (["a", None], "row 1 .*has no value in the column 'prompt'"),
    "half a pair of surrogates": (["a", "\ud800"], "row 1 of the list"),
    "bytes": ([{"prompt": "a"}, {"prompt": b"a"}], "row 1 of the list: column 'prompt' is of type bytes"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_row_of_a_file_counts_only_within_the_limit(world, kind):
    name, content, problem = FILES[kind]
    world.put(name, content)
    given = {"endpoint": "completions", "input": f"{{here}}/{name}"}
    for limit in ({}, {"limit_rows": 2}):
        with pytest.raises(InvalidArgumentError, match=problem):
            world.run(BATCH, {**given, **limit})
    assert not world.work
    assert world.run(BATCH, {**given, "limit_rows": 1})["counts"]["rows"] == 1
    assert sent(world) == ["a"]
    with pytest.raises(InvalidArgumentError, match=problem):
        world.run(BATCH, {**given, "on_changed_input": "extend"})
    assert sent(world) == ["a"]


@pytest.mark.parametrize("operator", [BATCH, "ClassifyOperator"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_bad_item_of_a_list_counts_only_within_the_limit(world, kind, operator):
    items, problem = LISTS[kind]
    options = {"endpoint": "completions"} if operator == BATCH else {"output": None}
    with pytest.raises(InvalidArgumentError, match=problem):
        world.run(operator, {**options, "input": items, "limit_rows": 2})
    assert not world.work
    world.run(operator, {**options, "input": items, "limit_rows": 1})
    assert sent(world) == ["a"]


def test_a_limit_without_bad_rows_changes_nothing_about_their_policy(world):
    world.put("r.jsonl", GOOD + b"x\n" + GOOD)
    keep = {"on_bad_row": "error", "max_failed_rows": 1, "limit_rows": 2, "endpoint": "completions"}
    assert world.run(BATCH, {**keep, "input": "{here}/r.jsonl"})["counts"]["failures"] == {"bad_row": 1}
    assert [row["output"] for row in rows_in(world.folder / "out")] == ["a", None]
    assert json.loads((world.folder / "out" / "manifest.json").read_bytes())["counts"]["rows"] == 2


def pair(question, answer="a"):
    return {"input": question, "output": answer}


BAD_PAIRS = {
    "a question is missing": {"output": "a"},
    "an answer is missing": {"input": "a"},
    "a blank answer": pair("a", " "),
    "NaN": pair(float("nan")),
}


def evaluate(world, value, **more):
    return world.run("EvaluateOperator", {"input": value, "endpoint": "completions", **more})


@pytest.mark.parametrize("kind", BAD_PAIRS)
@pytest.mark.parametrize("form", ["list", "file"])
@pytest.mark.parametrize("policy", [{}, {"on_bad_row": "error", "max_failed_rows": 0}])
def test_an_evaluation_of_a_sample_ignores_the_rows_after_it(world, kind, form, policy):
    rows = [pair("a"), pair("b"), BAD_PAIRS[kind]]
    if form == "file":
        world.put("r.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    value = "{here}/r.jsonl" if form == "file" else rows
    for limit in ({}, {"limit_rows": 3}):
        with pytest.raises(InvalidArgumentError):
            evaluate(world, value, **policy, **limit)
    assert not world.work
    counted = evaluate(world, value, limit_rows=2, dry_run=True, **policy)
    assert (counted["rows"], counted["characters"], world.work) == (2, 2, {})
    result = evaluate(world, value, limit_rows=2, base_model_name="m2", **policy)
    assert sent(world) == ["a", "a", "b", "b"]
    assert (result["rows"], result["left_out"], result["metrics"]["model"]["exact_match"]) == (2, 0, 0.5)
    scores = (world.folder / "out" / "scores.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["index"] for line in scores] == [0, 1]


def test_an_evaluation_of_a_query_scores_only_its_sample(world, monkeypatch, tmp_path_factory):
    database = sqlite(tmp_path_factory.mktemp("database"))
    database.run("CREATE TABLE pairs (input TEXT, output)")
    database.run("INSERT INTO pairs VALUES ('a', 'a'), ('b', x'ff')")
    database.connect(monkeypatch)
    query = {"input_sql": "SELECT * FROM pairs ORDER BY input", "input_conn_id": CONN_ID}
    with pytest.raises(InvalidArgumentError, match="column 'output' is of type bytes"):
        evaluate(world, None, **query)
    result = evaluate(world, None, **query, limit_rows=1)
    assert (result["rows"], result["metrics"]["model"], sent(world)) == (
        1,
        {"exact_match": 1, "token_f1": 1},
        ["a"],
    )


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("operator", [BATCH, "ClassifyOperator", "EvaluateOperator", "inline"])
def test_a_query_is_read_no_further_than_its_sample(world, monkeypatch, tmp_path_factory, operator, dry_run):
    columns = "prompt", "input", "output"
    query = {"input": None, **failing_query(tmp_path_factory.mktemp("database"), monkeypatch, *columns)}
    options = {"endpoint": "completions"} if operator in (BATCH, "EvaluateOperator") else {}
    if operator == "inline":
        operator, options = "ClassifyOperator", {"output": None}
    else:
        with pytest.raises(InvalidArgumentError, match="integer overflow"):
            world.run(operator, {**query, **options, "dry_run": dry_run})
    assert not world.work
    world.run(operator, {**query, **options, "limit_rows": 3, "dry_run": dry_run})
    assert sent(world) == ([] if dry_run else ["a"] * 3)


def test_a_function_is_asked_for_no_more_rows_than_a_block_with_its_sample():
    made = []

    def rows():
        for number in range(5000):
            made.append(number)
            yield f"row {number}"

    source = open_source(FirstRows(FunctionInput("rows", rows), 1001))
    assert [found.row["prompt"] for found in source.read()] == [f"row {number}" for number in range(1001)]
    assert len(made) == 2000


def test_an_evaluation_reads_no_further_than_its_sample(world):
    rows = json.dumps([pair("a")] * 5000).encode().removesuffix(b"]")  # whoever reads to its end finds none
    world.put("r.json", rows)
    with pytest.raises(InvalidArgumentError, match="incomplete"):
        evaluate(world, "{here}/r.json")
    assert evaluate(world, "{here}/r.json", limit_rows=3)["rows"] == 3


def test_a_left_out_row_counts_within_the_sample(world):
    rows = [pair("a"), {"input": "b"}, pair("c")]
    result = evaluate(world, rows, limit_rows=2, on_bad_row="error")
    assert (result["rows"], result["left_out"], sent(world)) == (1, 1, ["a"])


SAMPLES = {
    "a list": lambda rows: rows,
    "JSON Lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "an array": lambda rows: json.dumps(rows).encode(),
}


@pytest.mark.parametrize("form", SAMPLES)
def test_the_columns_of_a_sample_are_those_of_its_rows(world, form):
    rows = [{"prompt": "a", "id": 1}, {"prompt": "b", "id": "x", "other": 1}]
    value = SAMPLES[form](rows)
    if form != "a list":
        value = str(world.put("r.json", value))
    given = {"input": value, "limit_rows": 1, "output_format": "parquet"}
    with pytest.raises(InvalidArgumentError, match="no column 'other'"):
        world.run("EmbeddingOperator", {**given, "passthrough": ["other"]})
    assert not world.work
    world.run("EmbeddingOperator", {**given, "passthrough": ["id"]})
    (part,) = (world.folder / "out").glob("part-*")
    found = parquet.read_table(part)
    assert (found.schema.field("id").type, found["id"].to_pylist()) == (pa.int64(), [1])
