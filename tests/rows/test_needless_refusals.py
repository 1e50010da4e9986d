"""What does not matter for the columns that are used is not refused; what is refused says what to do."""

from __future__ import annotations

import csv
import gzip
import io

import pandas as pd
import pyarrow as pa
import pytest

from airflow_provider_lamini.rows.errors import BadRowError, ColumnError, InputError
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source

ODD = '{"id": 1, "prompt": "a", "x": NaN, "y": {"z": [-Infinity]}}'
PAIR = '{"id": 2, "prompt": "b", "x": "\\ud800"}'
GOOD = '{"id": 3, "prompt": "c"}'


def rows(given, columns=("id", "prompt"), **options):
    return [dict(found.row) for found in open_source(given, **options).read(columns=columns)]


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


EXPECTED = [{"id": 1, "prompt": "a"}, {"id": 2, "prompt": "b"}, {"id": 3, "prompt": "c"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", f"{ODD}\n{PAIR}\n{GOOD}\n"),
        ("in.json", f"[{ODD},\n{PAIR}, {GOOD}]"),
        ("in.jsonl.gz", gzip.compress(f"{ODD}\n{PAIR}\n{GOOD}\n".encode())),
    ],
    ids=["lines", "array", "gzip"],  # not the content: the gzip header has the time
)
def test_values_that_json_lacks_do_not_matter_in_columns_that_are_not_used(file, name, content):
    path = file(name, content)
    assert rows(path) == EXPECTED
    with pytest.raises(BadRowError, match=r"line 1: column 'x' is NaN or infinite"):
        rows(path, ("prompt", "x"))


def test_such_a_value_in_a_used_column_makes_its_row_a_bad_one(file):
    source = open_source(file("in.jsonl", f"{ODD}\n{PAIR}\n{GOOD}\n"), keep_bad=True)
    (batch,) = source.batches(columns=("prompt", "x"))
    assert {offset: failure.reason for offset, failure in batch.bad.items()} == {0: "bad_row", 1: "bad_row"}


def test_a_line_that_is_not_json_is_refused_as_before(file):
    with pytest.raises(BadRowError, match=r"line 1: not valid JSON"):
        rows(file("in.jsonl", '{"id": NaN, "prompt": }\n'))


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_repeated_columns_of_a_table_are_refused_only_when_used(kind):
    frame = pd.DataFrame([[1, "a", 2, 3]], columns=["id", "prompt", "x", "x"])
    table = frame if kind == "pandas" else pa.table([[1], ["a"], [2], [3]], names=list(frame.columns))
    source = open_source(table)
    assert [dict(found.row) for found in source.read(columns=("id", "prompt"))] == [{"id": 1, "prompt": "a"}]
    assert source.notes() == "left out columns with the same name (x)"
    with pytest.raises(ColumnError, match="more than one column 'x'"):
        list(source.batches(columns=("prompt", "x")))


def test_columns_of_a_table_without_a_text_as_name_are_left_out():
    frame = pd.DataFrame([["a", 2, 3]], columns=["prompt", None, ("x", "y")])
    assert rows(frame, None) == [{"prompt": "a"}]
    assert open_source(frame).notes() == "left out columns whose names are not texts (None, of type tuple)"
    assert open_source([frame, frame]).notes().endswith("names are not texts (None, of type tuple)")
    with pytest.raises(ColumnError, match="no column whose name is a text"):
        open_source(pd.DataFrame([[1]], columns=[None]))


def test_keys_of_mappings_that_are_not_texts_are_left_out():
    surplus = list(csv.DictReader(io.StringIO("id,prompt\n1,a\n2,b,c,d\n3\n")))
    source = open_source(surplus)
    expected = [{"id": "1", "prompt": "a"}, {"id": "2", "prompt": "b"}, {"id": "3", "prompt": None}]
    assert [found.row for found in source.read()] == expected
    assert source.notes() == "left out columns whose names are not texts (None)"
    assert rows(FunctionInput("records", lambda: surplus), None) == expected
    assert rows([{"prompt": "a", 1: {2}, "raw": {2}}]) == [{"prompt": "a"}]
    for row, problem in (
        ({None: "a"}, "row 0 of the list: it has a key None"),
        ({"prompt": {1: 2}, 1: 2}, "'prompt'"),
    ):
        with pytest.raises(BadRowError, match=problem):
            rows([row], ["prompt"])


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_by_which_excel_is_told_the_delimiter(file, first, end):
    path = file("in.csv", end.join(["\ufeff" + first, "id;prompt", "1;a,b", '2;"c;d"', ""]))
    expected = [{"id": "1", "prompt": "a,b"}, {"id": "2", "prompt": "c;d"}]
    source = open_source(path)
    assert [dict(found.row) for found in source.read()] == expected
    second = next(iter(source.read()))
    assert [dict(found.row) for found in source.read(second.after)] == expected[1:]


def test_that_line_before_a_file_without_a_header(file):
    from airflow_provider_lamini.rows.sources.options import InputOptions

    options = InputOptions.parse(csv_options={"header": ["id", "prompt"]})
    assert rows(file("in.csv", "sep=|\n1|a\n"), options=options) == [{"id": "1", "prompt": "a"}]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.txt"])
def test_utf_16_without_a_mark_is_named(file, encoding, name):
    content = (GOOD + "\n" if name == "in.jsonl" else "id,prompt\n1,a\n").encode(encoding)
    with pytest.raises(
        InputError, match=rf"UTF-16 without a mark.*Convert it to UTF-8.*'encoding': '{encoding}'"
    ):
        rows(file(name, content))


@pytest.mark.parametrize(
    ("name", "content"), [("in.json", f"[[{GOOD}], [{GOOD}, {GOOD}]]"), ("in.jsonl", f"{GOOD}\n[{GOOD}]\n")]
)
def test_pages_of_rows_in_a_file_are_named(file, name, content):
    with pytest.raises(
        BadRowError, match=r"expected a row, not a list of 1 row. Pages of rows must be joined"
    ):
        rows(file(name, content))


def test_a_folder_whose_files_have_no_suffix_is_refused_with_what_to_pass(file, tmp_path):
    file("part_a", GOOD)
    with pytest.raises(
        InputError,
        match=r"names of its files do not tell their format. Pass its files as .*/\*, with input_format",
    ):
        rows(str(tmp_path))


@pytest.mark.parametrize(
    "texts",
    [
        ["Summarize the contract in report.csv", "List all dates of letters.txt"],
        ["What are the totals in sales.parquet"],
    ],
)
def test_sentences_that_end_in_the_name_of_a_file_are_prompts(texts):
    source = open_source(texts)
    assert [found.row for found in source.read()] == [{"prompt": text} for text in texts]
    assert source.notes() == "took texts that end like names of files as prompts (the list)"


@pytest.mark.parametrize("texts", [["sales report.csv"], ["Summarize the contract in a.csv", "a b.csv"]])
def test_names_of_few_words_that_do_not_exist_are_refused_with_the_remedy(texts):
    with pytest.raises(InputError, match=r"do not exist on this machine.*To send texts .* pass rows"):
        open_source(texts)


def test_other_lists_say_nothing_about_names():
    assert open_source(["Summarize the contract in report.csv", "a text"]).notes() == ""
    assert open_source([float("nan"), "a"]).notes() == open_source([]).notes() == ""


def test_numbers_in_a_list_are_texts_and_the_log_says_what_a_template_may_have_changed():
    source = open_source([3.10, 7, "1e5"])
    assert [found.row for found in source.read()] == [{"prompt": "3.1"}, {"prompt": "7"}, {"prompt": "1e5"}]
    assert source.notes() == "took numbers as texts; 3.10 is 3.1 if a template rendered the list (the list)"
