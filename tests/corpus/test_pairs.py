"""All rows of a dataset are validated before one is used, and the error names the bad ones."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import pytest

from airflow_provider_lamini.corpus.pairs import Columns, PairReader, dataset_file
from airflow_provider_lamini.rows.errors import (
    BadRowError,
    ColumnError,
    InputChangedError,
    InputError,
    MissingColumnError,
)
from airflow_provider_lamini.rows.sources.source import open_source

GOOD = [{"input": f"q{number}", "output": f"a{number}", "more": number} for number in range(3)]


def rows_of(given, prompt="input", answer="output"):
    with dataset_file(PairReader(open_source(given), Columns.parse(prompt, answer))) as dataset:
        with dataset.file.open() as file:
            content = file.read()
        assert len(content) == dataset.size
        rows = [json.loads(line) for line in content.splitlines()]
        assert len(rows) == dataset.rows
        return rows


@pytest.fixture
def file(tmp_path):
    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def test_rows_are_reduced_to_input_and_output(file):
    expected = [{"input": f"q{number}", "output": f"a{number}"} for number in range(3)]
    assert rows_of(GOOD) == expected
    assert rows_of(file(GOOD)) == expected


def test_columns_are_mapped_by_name_and_by_template(file):
    rows = [{"subject": "late", "body": "where is it?", "category": "shipping", "stars": 2}]
    assert rows_of(file(rows), "Sort {subject}: {body}", "category") == [
        {"input": "Sort late: where is it?", "output": "shipping"}
    ]
    assert rows_of(rows, "body", "{stars} stars") == [{"input": "where is it?", "output": "2 stars"}]


def test_csv_files_work_too(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('input,output\r\n"one, two",three\r\n')
    assert rows_of(str(path)) == [{"input": "one, two", "output": "three"}]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"input": "q"}, r"has no column 'output' (Existing columns: input)"),
        ({"input": "q", "output": None, "more": 1}, "has no value in the column 'output'"),
        ({"input": " ", "output": "a"}, "makes an empty input"),
        ({"input": "q", "output": "\n"}, "makes an empty output"),
    ],
)
@pytest.mark.parametrize("inline", [True, False])
def test_the_error_names_number_and_location_of_a_bad_row(file, bad, problem, inline):
    rows = [*GOOD, bad]
    place = "item 3 of the list" if inline else "rows.jsonl, line 4"
    with pytest.raises(BadRowError, match=re.escape(f"row 3 ({place}) {problem}")) as failed:
        rows_of(rows if inline else file(rows))
    assert str(failed.value).startswith("1 row of ")
    assert "nothing was sent" in str(failed.value)


def test_all_rows_are_validated_and_the_first_ten_bad_ones_are_named(file):
    rows = [
        *GOOD,
        *({"input": "q", "output": ""} for _ in range(12)),
        *GOOD * 1000,
        {"input": "q", "output": ""},
    ]
    with pytest.raises(BadRowError) as failed:
        rows_of(file(rows))
    text = str(failed.value)
    assert text.startswith("13 rows of ")
    assert re.findall(r"row (\d+) \(", text) == [str(number) for number in range(3, 13)]
    assert "and 3 more" in text


def test_no_content_of_a_row_is_in_the_message(file):
    with pytest.raises(BadRowError) as failed:
        rows_of(file([{"input": "a secret question", "output": None}]))
    assert "secret" not in str(failed.value)


def test_a_line_that_is_no_json_is_named(file):
    path = Path(file(GOOD))
    path.write_text(path.read_text() + "{not json\n")
    with pytest.raises(BadRowError, match="line 4"):
        rows_of(str(path))


@pytest.mark.parametrize("given", [[], "empty.jsonl"])
def test_an_input_without_rows_is_refused(file, given):
    with pytest.raises(InputError, match="no rows"):
        rows_of(file([], given) if isinstance(given, str) else given)


def test_a_csv_file_without_the_column_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("input,answer\nq,a\n")
    with pytest.raises(MissingColumnError, match="'output'"):
        rows_of(str(path))


@pytest.mark.parametrize(("prompt", "answer", "named"), [("", "output", "prompt"), ("input", None, "answer")])
def test_an_invalid_template_is_named_by_its_argument(prompt, answer, named):
    with pytest.raises(ColumnError, match=f"^{named} must be a text"):
        Columns.parse(prompt, answer)


def test_the_file_is_gone_afterwards_also_after_an_error():
    seen = []

    def use():
        with (
            dataset_file(PairReader(open_source(GOOD), Columns.parse("input", "output"))) as dataset,
            dataset.file.open() as file,
        ):
            seen.append(Path(file.name))
            assert seen[0].exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        use()
    assert not seen[0].exists()


def test_memory_does_not_depend_on_the_number_of_rows(file):
    row = {"input": "question " * 20, "output": "answer " * 20}
    source, columns = open_source(file([row] * 60_000)), Columns.parse("input", "output")
    tracemalloc.start()
    with dataset_file(PairReader(source, columns)) as dataset:
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.size > 19_000_000
    assert peak < 12_000_000


@pytest.mark.parametrize("rows", [GOOD[:2], [*GOOD, *GOOD], [{**row, "output": "b"} for row in GOOD]])
def test_a_file_that_is_written_again_while_it_is_read_makes_no_dataset(file, rows):
    reader = PairReader(open_source(file(GOOD)), Columns.parse("input", "output"))
    pairs = reader.read()
    next(pairs)
    file(rows)
    with pytest.raises(InputChangedError, match="was changed while it was read"):
        list(pairs)
