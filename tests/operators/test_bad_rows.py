"""Rows that cannot be sent, with every operator and from every kind of input: refused before anything is sent, or written."""

from __future__ import annotations

import csv
import json
import math

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from tests.support.databases import CONN_ID, sqlite
from tests.support.results import rows_in
from tests.support.row_tasks import each_operator
from tests.support.tasks import run_to_end

pytestmark = pytest.mark.any_airflow

GOOD = [0, 2, 4, 6, 8, 10]
each_source = pytest.mark.parametrize("source", ["list", "jsonl", "csv", "parquet"])


def write_input(source, folder):
    """Eleven rows. The odd ones cannot be sent: 1 and 3 have no prompt, 5 a blank one, 7 a long one, and 9 is broken."""
    texts = [f"row {number} of all" for number in range(11)]
    rows = [{"id": number, "body": text} for number, text in enumerate(texts)]
    rows[1]["body"] = None
    del rows[3]["body"]
    rows[5]["body"] = " \t"
    rows[7]["body"] = "long " * 50
    rows[9]["id"] = math.nan
    if source == "list":
        return rows
    path = folder / f"in.{source}"
    if source == "jsonl":
        lines = [json.dumps(row) for row in rows]
        lines[9] = lines[9][:12]
        path.write_text("\n".join(lines) + "\n")
    elif source == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "body"])
            writer.writerows([row["id"], row.get("body", "")] for row in rows[:9])
            writer.writerow(["9", "one", "value too many"])
            writer.writerow(["10", texts[10]])
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pa.table(
            {
                "id": pa.array([row["id"] for row in rows], pa.float64()),
                "body": [row.get("body") for row in rows],
            }
        )
        parquet.write_table(table, path)
    return str(path)


def write_corrected(source, folder):
    """The same rows without what was wrong in them."""
    rows = [{"id": number, "body": f"row {number} of all"} for number in range(11)]
    if source == "list":
        return rows
    path = folder / f"in.{source}"
    if source == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif source == "csv":
        path.write_text("id,body\n" + "".join(f"{row['id']},{row['body']}\n" for row in rows))
    else:
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    return str(path)


def arguments(source, folder):
    return {
        "input": write_input(source, folder),
        "prompt": "body",
        "passthrough": ["id"],
        "max_prompt_chars": 200,
    }


@each_operator
@each_source
def test_bad_rows_are_written_with_their_error_and_not_sent(task, source, tmp_path, out):
    ended = run_to_end(task(on_bad_row="error", max_failed_rows="50%", **arguments(source, tmp_path)))
    found = list(read_outputs(str(out)))
    assert [row["index"] for row in found] == list(range(11))
    assert [row["index"] for row in found if row["error"] is None] == GOOD
    counts = ended.result["counts"]
    failures = {"no_prompt": 3, "prompt_too_long": 1, "bad_row": 1}
    assert (counts["ok"], counts["failed"], counts["failures"]) == (6, 5, failures)
    errors = rows_in(out, "errors-*.jsonl")
    assert [(row["index"], row["error_reason"]) for row in errors] == [
        (1, "no_prompt"),
        (3, "no_prompt"),
        (5, "no_prompt"),
        (7, "prompt_too_long"),
        (9, "bad_row"),
    ]
    assert "long long" not in str(errors)


@each_operator
@each_source
def test_corrected_rows_are_sent_later_and_keep_their_index(task, source, tmp_path, out):
    given = arguments(source, tmp_path)
    run_to_end(task(on_bad_row="error", max_failed_rows=5, **given))
    again = str(tmp_path / "again")
    given["input"] = write_corrected(source, tmp_path)
    ended = run_to_end(task(only_failed_of=str(out), **given | {"output": again}))
    assert [(row["index"], row["id"], row["error"]) for row in read_outputs(again)] == [
        (number, str(number) if source == "csv" else number, None) for number in (1, 3, 5, 7, 9)
    ]
    assert (ended.result["counts"]["rows"], ended.result["counts"]["ok"]) == (5, 5)


@each_operator
@each_source
def test_more_bad_rows_than_may_fail_are_refused_before_anything_is_sent(task, source, tmp_path, out):
    make = task(on_bad_row="error", max_failed_rows=4, **arguments(source, tmp_path))
    with pytest.raises(
        InvalidArgumentError, match=r"5 of 11 rows .* cannot be sent \(3 no_prompt, 1 bad_row"
    ):
        run_to_end(make)
    assert not list(out.glob("*.jsonl"))


@each_operator
@each_source
@pytest.mark.parametrize("limit", [0, "100%"])
def test_by_default_the_first_bad_row_is_refused_before_anything_is_sent(task, source, tmp_path, out, limit):
    with pytest.raises(InvalidArgumentError, match=r"row 1|line 1[01]|row 9"):
        run_to_end(task(max_failed_rows=limit, **arguments(source, tmp_path)))
    assert not list(out.glob("part*"))


@pytest.fixture
def query(tmp_path, monkeypatch):
    """The arguments for a query of four rows. JSON cannot represent a value of the first and of the third."""
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path)
    database.run("CREATE TABLE mails (id INTEGER, body TEXT, size)")
    database.fill("mails", [(number, f"text {number}", number) for number in range(4)])
    database.run("UPDATE mails SET size = x'ff' WHERE id = 0")
    database.run("UPDATE mails SET size = 9e999 WHERE id = 2")
    database.connect(monkeypatch)
    sql = "SELECT * FROM mails ORDER BY id"
    return {"input": None, "input_sql": sql, "input_conn_id": CONN_ID, "prompt": "body"}


@each_operator
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_value_of_a_query_that_json_cannot_hold_fails_its_row(task, query, out, deferrable):
    policy = {"on_bad_row": "error", "max_failed_rows": 2}
    ended = run_to_end(task(**query, **policy, passthrough=["size"], deferrable=deferrable))
    assert ended.result["counts"]["failures"] == {"bad_row": 2}
    assert [(row["index"], row["size"]) for row in read_outputs(str(out)) if row["error"] is None] == [
        (1, 1),
        (3, 3),
    ]
    errors = [row["error"] for row in rows_in(out, "errors-*.jsonl")]
    assert errors[0].startswith("row 0 of the query: column 'size' is of type bytes")
    assert errors[1].startswith("row 2 of the query: column 'size' is NaN or infinite")


@each_operator
@pytest.mark.parametrize("policy", [{}, {"on_bad_row": "error", "max_failed_rows": 1}])
def test_such_a_query_is_refused_by_default_and_above_the_limit(task, query, out, policy):
    with pytest.raises(InvalidArgumentError, match="row 0 of the query: column 'size' is of type bytes"):
        run_to_end(task(**query, **policy, passthrough=["size"]))
    assert [path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@each_operator
@pytest.mark.parametrize("on_bad_row", ["fail", "error"])
def test_a_value_of_a_query_that_nobody_needs_does_not_matter(task, query, on_bad_row):
    ended = run_to_end(task(**query, on_bad_row=on_bad_row))
    assert ended.result["counts"]["ok"] == 4


@pytest.mark.parametrize("operator", ["embed", "classify", "rag"])
@pytest.mark.parametrize("on_bad_row", ["fail", "error"])
def test_nor_does_it_without_an_output_folder(task, query, on_bad_row):
    result = run_to_end(task(**query | {"output": None, "on_bad_row": on_bad_row})).result
    assert "errors" not in result
    with pytest.raises(InvalidArgumentError, match=r"row 0 .*column 'size' is of type bytes"):
        run_to_end(task(**query | {"output": None, "prompt": "{body} {size}"}))


@pytest.mark.parametrize("operator", ["embed", "classify", "rag"])
def test_without_an_output_folder_such_rows_of_a_query_are_listed(task, query):
    given = query | {"output": None, "on_bad_row": "error", "max_failed_rows": 2, "prompt": "{body} {size}"}
    result = run_to_end(task(**given)).result
    assert [error and error["reason"] for error in result["errors"]] == ["bad_row", None, "bad_row", None]


BLANKS = ["", " ", "\t\n", " ", None, "\u200b\ufeff"]


@each_operator
@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("prompt", ["{body}", "Say {body}!", "body"])
def test_a_row_whose_only_column_is_blank_has_no_prompt(task, blank, prompt, out):
    rows = [{"body": "a"}, {"body": blank}]
    ended = run_to_end(task(input=rows, prompt=prompt, on_bad_row="error", max_failed_rows=1))
    assert ended.result["counts"]["failures"] == {"no_prompt": 1}
    with pytest.raises(InvalidArgumentError, match="row 1"):
        run_to_end(task(input=rows, prompt=prompt, output=str(out / "other")))


@pytest.mark.parametrize("operator", ["batch"])
def test_a_row_is_sent_if_one_of_several_columns_has_a_value(task):
    rows = [{"a": "", "b": "x"}, {"a": "x", "b": ""}, {"a": 0, "b": False}, {"a": " ", "b": ""}]
    ended = run_to_end(task(input=rows, prompt="{a}: {b}", on_bad_row="error", max_failed_rows=1))
    assert (ended.result["counts"]["ok"], ended.result["counts"]["failures"]) == (3, {"no_prompt": 1})


@pytest.mark.parametrize("operator", ["batch", "completions"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_chunk_without_a_row_to_send_starts_no_job(platform, task, rows, deferrable):
    rows_given = [{"t": None}] * 4 + [{"t": "x"}] * 4 + [{"t": ""}] * 4
    run_to_end(
        task(input=rows_given, prompt="t", on_bad_row="error", max_failed_rows=8, deferrable=deferrable)
    )
    assert [row["error"] is None for row in rows()] == [False] * 4 + [True] * 4 + [False] * 4
    assert sum(job["total"] for job in platform.control.jobs()) in {0, 4}


@pytest.mark.parametrize("operator", ["batch"])
def test_bad_rows_keep_their_error_when_other_rows_are_sent_again(platform, task, rows):
    platform.control.row_fault("row 2 of", times=1)
    rows_given = [{"t": f"row {number} of"} if number % 2 == 0 else {"t": None} for number in range(8)]
    ended = run_to_end(task(input=rows_given, prompt="t", on_bad_row="error", max_failed_rows=4))
    assert [row["error"] is None for row in rows()] == [True, False] * 4
    assert (ended.result["counts"]["retried"], ended.result["counts"]["failures"]) == (1, {"no_prompt": 4})


@pytest.mark.parametrize("operator", ["batch"])
@pytest.mark.parametrize("wrong", ["warn", "", None, True])
def test_another_policy_is_refused(task, wrong):
    with pytest.raises(InvalidArgumentError, match="on_bad_row must be one of fail, error"):
        run_to_end(task(on_bad_row=wrong))


@each_operator
def test_a_column_that_no_row_has_is_refused_by_either_policy(task, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"body": "a"}\n{"body": "b"}\n')
    with pytest.raises(InvalidArgumentError, match="no column 'text'"):
        run_to_end(task(input=str(path), prompt="text", on_bad_row="error", max_failed_rows=None))


@pytest.mark.parametrize("operator", ["embed", "classify", "rag"])
def test_without_an_output_folder_bad_rows_are_listed(task):
    rows = [{"t": "a"}, {"t": ""}, {"t": "b"}]
    with pytest.raises(InvalidArgumentError, match="row 1 of the list"):
        run_to_end(task(input=rows, prompt="t", output=None))
    result = run_to_end(
        task(input=rows, prompt="t", output=None, on_bad_row="error", max_failed_rows=1)
    ).result
    listed = result["embeddings" if "embeddings" in result else "outputs"]
    assert [value is None for value in listed] == [False, True, False]
    assert [error and error["reason"] for error in result["errors"]] == [None, "no_prompt", None]


WITH_FIELDS = [
    {"v": {"name": "row 0 of all", "other": 1, "deep": {"fine": 1, "not": 1}}},
    {"v": {"name": "row 1 of all", "other": math.nan, "deep": {"fine": 1, "not": [math.inf]}}},
    {"v": {"name": "row 2 of all", "other": "half \ud800"}},
]


@pytest.fixture(params=["list", "jsonl", "json"])
def with_fields(request, tmp_path):
    """Rows in which a field cannot be used, and its siblings can."""
    if request.param == "list":
        return WITH_FIELDS
    path = tmp_path / f"in.{request.param}"
    lines = list(map(json.dumps, WITH_FIELDS))
    path.write_text("\n".join(lines) if request.param == "jsonl" else f"[{','.join(lines)}]")
    return str(path)


@each_operator
@pytest.mark.parametrize("on_bad_row", ["fail", "error"])
def test_a_field_is_used_although_its_sibling_cannot_be(task, with_fields, out, on_bad_row):
    run_to_end(
        task(
            input=with_fields,
            prompt="{v.name}{v.deep.fine}" if on_bad_row == "error" else "{v.name}",
            passthrough=["v.name"],
            on_bad_row=on_bad_row,
            max_failed_rows=2,
        )
    )
    found = list(read_outputs(str(out)))
    assert [row["v.name"] for row in found] == [f"row {number} of all" for number in range(3)]
    assert [row["error"] is None for row in found] == (
        [True, True, False] if on_bad_row == "error" else [True] * 3
    )


@pytest.mark.parametrize("operator", ["batch"])
@pytest.mark.parametrize(
    ("needed", "bad"), [("v", [1, 2]), ("v.other", [1, 2]), ("v.deep", [1]), ("v.deep.not", [1])]
)
def test_a_field_that_cannot_be_used_makes_a_bad_row_of_who_needs_it(task, with_fields, out, needed, bad):
    given = {"input": with_fields, "prompt": "{v.name}", "passthrough": [needed]}
    with pytest.raises(InvalidArgumentError, match=r"column 'v[\w.]*' (is|has)"):
        run_to_end(task(**given))
    run_to_end(task(**given, on_bad_row="error", max_failed_rows=2))
    assert [row["index"] for row in read_outputs(str(out)) if row["error"]] == bad


@pytest.mark.parametrize("operator", ["batch"])
def test_a_value_that_cannot_be_used_does_not_hide_the_names_of_the_columns(task, tmp_path, out):
    path = tmp_path / "in.jsonl"
    path.write_text('{"Price (USD)": 5, "x": NaN}\n')
    run_to_end(task(input=str(path), prompt="It costs {Price (USD)}", deferrable=False))
    assert [row["error"] for row in read_outputs(str(out))] == [None]
    with pytest.raises(InvalidArgumentError, match=r"'Price \(USD\)', 'x'|Price \(USD\), x"):
        run_to_end(task(input=str(path), prompt="It costs {price}", output=f"{out}-2", deferrable=False))
