"""Files that hold something else than their names say, joined files, wrong encodings, and lines that are too long."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile
import tracemalloc
import zipfile
from contextlib import closing

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.batch import MAX_LINE
from airflow_provider_lamini.rows.sources.source import open_source
from tests.bad_input.files import READERS, lines, parquet, table
from tests.bad_input.test_inputs import sent
from tests.support.results import rows_in

pd = pytest.importorskip("pandas")

BATCH, UPLOAD = "BatchInferenceOperator", "UploadDatasetOperator"
MARK = b"\xef\xbb\xbf"


def tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("rows")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows", content)
    return file.getvalue()


def database(_: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE rows (prompt)")
        return connection.serialize()


OTHER = {
    "ZIP": zipped,
    "tar": tar,
    "Parquet": lambda _: parquet(["prompt"]),
    "SQLite": database,
    "PDF": lambda content: b"%PDF-1.7\n" + content,
    "Git LFS": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (BATCH, "r.txt"),
        (BATCH, "r.csv"),
        (BATCH, "r.jsonl"),
        (BATCH, "r.txt.gz"),
        (UPLOAD, "r.csv"),
        (UPLOAD, "r.jsonl"),
    ],
)
@pytest.mark.parametrize("kind", OTHER)
def test_a_file_that_is_something_else_is_refused_by_either_policy(world, operator, kind, name):
    argument, columns = READERS[operator]
    content = OTHER[kind](lines(columns))
    world.put(name, gzip.compress(content) if name.endswith(".gz") else content)
    for policy in ({}, {"on_bad_row": "error", "max_failed_rows": None}):
        with pytest.raises(InvalidArgumentError, match=kind):
            world.run(operator, {argument: f"{{here}}/{name}", **policy})
    assert world.work == {}


@pytest.mark.parametrize("encoding", ["rot13", "base64", "undefined", "no such"])
def test_an_encoding_that_is_none_of_text_is_refused(world, encoding):
    world.put("r.csv", table(["prompt"]))
    with pytest.raises(InvalidArgumentError, match="name of an encoding"):
        world.run(BATCH, {"input": "{here}/r.csv", "csv_options": {"encoding": encoding}})


def prompts(world, name: str, content: bytes, **arguments) -> list[object]:
    """Return what is sent, and ``None`` for each bad row, in the order of the input."""
    world.put(name, content)
    options = {"endpoint": "completions", "on_bad_row": "error", "max_failed_rows": None, **arguments}
    world.run(BATCH, {"input": f"{{here}}/{name}", **options})
    return [row["output"] for row in rows_in(world.folder / "out")]


def test_a_line_that_is_not_in_its_encoding_is_one_bad_row(world):
    content = "prompt\né\n".encode("cp1252") + b"\x81\nb\n"
    assert prompts(world, "r.csv", content, csv_options={"encoding": "cp1252"}) == ["é", None, "b"]
    (error,) = rows_in(world.folder / "out", "errors-*.jsonl")
    assert "line 3: the line is not valid CP1252" in error["error"]


def test_two_bytes_that_happen_to_be_utf8_are_not_taken_for_another_encoding(world):
    assert prompts(world, "r.csv", "prompt\né\nb\n".encode(), csv_options={"encoding": "ascii"}) == [
        None,
        "b",
    ]


@pytest.mark.parametrize("encoding", ["utf-32", "utf-16"])
def test_a_mark_tells_the_encoding(world, encoding):
    assert prompts(world, "r.csv", "prompt\nä\n".encode(encoding)) == ["ä"]


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_wide_characters_without_a_mark_are_refused_with_their_encoding(world, encoding):
    with pytest.raises(InvalidArgumentError, match=f"'encoding': '{encoding}'"):
        prompts(world, "r.csv", "prompt\nabc\n".encode(encoding))


JOINED = {
    "JSON Lines": ("r.jsonl", MARK + b'{"prompt": "a"}\n' + MARK + b'{"prompt": "b"}\n'),
    "text": ("r.txt", MARK + b"a\n" + MARK + b"b\n"),
    "CSV of one column": ("r.csv", MARK + b"prompt\na\n" + MARK + b"prompt\nb\n"),
    "CSV": ("r.csv", MARK + b"prompt,id\na,1\n" + MARK + b"prompt,id\nb,2\n"),
    "two marks at the beginning": ("r.csv", MARK * 2 + b"prompt,id\na,1\nb,2\n"),
}


@pytest.mark.parametrize("kind", JOINED)
def test_the_marks_of_joined_files_are_no_part_of_a_row(world, kind):
    assert prompts(world, *JOINED[kind]) == ["a", "b"]


@pytest.mark.parametrize("line", [b"id,prompt\n", b'"id", prompt\r\n', MARK + b"id,prompt\n"])
def test_a_header_line_that_is_also_given_is_not_a_row(world, line):
    content = line + b"1,a\n2,b\n"
    assert prompts(world, "r.csv", content, csv_options={"header": ["id", "prompt"]}) == ["a", "b"]


def test_lines_that_end_with_carriage_returns_alone_are_not_one_prompt(world):
    with pytest.raises(InvalidArgumentError, match="carriage returns alone"):
        prompts(world, "r.txt", b"a\rb\r")
    assert prompts(world, "r.txt", b"a\rb\nc\r") == ["a\rb", "c"]


@pytest.mark.parametrize("unused", ["x", "prompt"])
def test_a_huge_integer_in_an_array_is_refused_only_where_it_is_used(world, unused):
    row = '[{"prompt": "a", "x": 1}]'.replace("1" if unused == "x" else '"a"', "9" * 5000)
    assert prompts(world, "r.json", row.encode()) == (["a"] if unused == "x" else [None])


def test_a_huge_integer_in_a_list_is_a_bad_row_of_its_column(world):
    arguments = {"endpoint": "completions", "on_bad_row": "error", "max_failed_rows": None}
    world.run(BATCH, {"input": [{"prompt": 10**5000}, {"prompt": "b", "x": 10**5000}, 10**5000], **arguments})
    assert [row["output"] for row in rows_in(world.folder / "out")] == [None, "b", None]


ROW = json.dumps({"prompt": "a", "id": 1})


@pytest.mark.parametrize(
    ("content", "input_format"),
    [
        (ROW + "\n", "jsonl"),
        (json.dumps({"prompt": "a"}, indent=2), "jsonl"),
        (json.dumps([{"prompt": "a"}], indent=2), "jsonl"),
        (json.dumps([{"prompt": "a"}]) + "\n", "jsonl"),
        ("prompt\na\n", "csv"),
        ("id;prompt\r\n1;a\r\n", "csv"),
        ('"id"\t"prompt"\n1\ta\n', "tsv"),
    ],
)
def test_a_text_file_that_holds_rows_of_another_format_is_refused(world, content, input_format):
    for mark in (b"", MARK):
        with pytest.raises(
            InvalidArgumentError, match=f"r.txt does not begin with a prompt, .*{input_format}"
        ):
            prompts(world, "r.txt", mark + content.encode())
    assert prompts(world, "r.txt", content.encode(), input_format=input_format) == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        "prompt: a",
        "a prompt, a text",
        "prompt, please",
        '{"body": "a"}',
        "{a}",
        "[1]",
        '[{"body": "a"}]',
        "id,text",
        "{ {",
    ],
)
def test_a_text_file_whose_lines_only_resemble_rows_is_sent(world, line):
    assert prompts(world, "r.txt", f"{line}\nb\n".encode()) == [line, "b"]


@pytest.mark.parametrize("policy", [{}, {"on_bad_row": "error", "max_failed_rows": 0}])
@pytest.mark.parametrize(
    "operator", ["BatchInferenceOperator", "ClassifyOperator", "EmissaryBatchInferenceOperator"]
)
def test_a_row_that_is_encoded_twice_is_not_sent(world, operator, policy):
    world.put("r.jsonl", (json.dumps(ROW) + "\n").encode())
    for value in ([ROW, ROW], pd.Series([ROW]), [[ROW], [ROW, "a"]], "{here}/r.jsonl"):
        with pytest.raises(
            InvalidArgumentError, match=r"JSON text of a row with the column 'prompt'|more than may fail"
        ):
            world.run(operator, {"input": value, **policy})
    assert not world.work


def test_other_json_texts_are_prompts(world):
    texts = ['{"body": "a"}', '{"prompt": ', '["prompt"]', "{prompt}"]
    world.run("BatchInferenceOperator", {"input": [*texts, {"prompt": ROW}], "endpoint": "completions"})
    assert sent(world) == sorted([*texts, ROW])


@pytest.mark.parametrize(("name", "row"), [("r.jsonl", '{{"prompt": "{}"}}\n'), ("r.txt", "{}\n")])
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_line_that_is_too_long_is_one_bad_row(world, monkeypatch, name, row, end):
    monkeypatch.setattr("airflow_provider_lamini.rows.sources.textfile.MAX_LINE", 200_000)
    texts = ["a", "x" * 199_000, "y" * 200_001, "b", "z" * 300_000]
    content = "".join(map(row.format, texts)).removesuffix("\n") + end
    assert prompts(world, name, content.encode(), chunk_size=1) == ["a", texts[1], None, "b", None]
    with pytest.raises(InvalidArgumentError, match="line 3: the line is longer"):
        prompts(world, name, content.encode(), on_bad_row="fail", output="{here}/other")


@pytest.mark.parametrize("name", ["r.jsonl", "r.txt"])
def test_reading_goes_on_after_a_dropped_line_from_any_position(tmp_path, monkeypatch, name):
    monkeypatch.setattr("airflow_provider_lamini.rows.sources.textfile.MAX_LINE", 100_000)
    texts = ["a", "x" * 150_000, "b", "y" * 120_000, "c"]
    made = [json.dumps({"prompt": text}) if name.endswith("jsonl") else text for text in texts]
    (tmp_path / name).write_text("\n".join(made))
    source = open_source(str(tmp_path / name), keep_bad=True)
    rows = list(source.read())
    assert [row.row.get("prompt") for row in rows] == ["a", None, "b", None, "c"]
    for number, row in enumerate(rows):
        rest = [later.row.get("prompt") for later in source.read(row.after)]
        assert rest == ["a", None, "b", None, "c"][number + 1 :]


@pytest.fixture
def short_lines(monkeypatch):
    """A long line has 100,000 bytes, and a long record 200,000."""
    for module in ("textfile", "delimited"):
        monkeypatch.setattr(f"airflow_provider_lamini.rows.sources.{module}.MAX_LINE", 100_000)
    monkeypatch.setattr("airflow_provider_lamini.rows.sources.delimited._MAX_RECORD", 200_000)


LINES = "y" * 60 + "\n"
LONG_RECORDS = {
    "a line": f"1,{'x' * 250_000},2",
    "a quoted line": f'1,"{"x" * 250_000}, and ""more""",2',
    "many values": f'1,"a",{"x," * 60_000}2',
    "quoted lines": f'1,"{LINES * 2_000}",2',
    "very many quoted lines": f'1,"{LINES * 6_000}",2',
    "a line, and more": f'1,"{"x" * 250_000}\n{LINES}",2',
    "lines, then a long one": f'1,"{LINES}{"x" * 250_000}\n{LINES}"," 2"',
    "a quotation mark within a value": f'1,{"x" * 250_000}"y,2',
    "a byte that is none of UTF-8": '1,"\udcff\n",2',
}


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize("kind", LONG_RECORDS)
@pytest.mark.parametrize("last", [False, True])
def test_a_record_of_csv_that_is_too_long_is_one_bad_row(world, kind, last):
    record = LONG_RECORDS[kind].encode(errors="surrogateescape")
    content = b"id,prompt,more\n0,a,b\n" + record + (b"" if last else b"\n5,c,d\n")
    expected = ["a", None] if last else ["a", None, "c"]
    assert prompts(world, "r.csv", content, chunk_size=1) == expected
    with pytest.raises(InvalidArgumentError, match=r"r\.csv, line [34]: "):
        prompts(world, "r.csv", content, on_bad_row="fail", output="{here}/other")
    source = open_source(str(world.folder / "r.csv"), keep_bad=True)
    for number, row in enumerate(source.read()):
        rest = [later.row.get("prompt") for later in source.read(row.after)]
        assert rest == expected[number + 1 :]


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize(
    "record",
    [
        f'1,"{LINES * 6_000}',
        f'1,"{"x" * 250_000}',
        f'1,"{LINES * 6_000}"x,2',
        f'1,"{LINES * 6_000}",2,3,4',
    ],
)
def test_a_quotation_mark_that_swallows_rows_refuses_the_file(world, record):
    with pytest.raises(InvalidArgumentError, match=r"r\.csv, line 3: "):
        prompts(world, "r.csv", f"id,prompt,more\n0,a,b\n{record}\n5,c,d\n".encode())
    assert world.work == {}


@pytest.mark.long
def test_a_record_that_is_too_long_is_not_held_in_memory(tmp_path):
    path = tmp_path / "r.csv"
    with path.open("w") as file:
        file.write("id,prompt\n0,a\n")
        file.write("1,")
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write('\n2,"')
        for _ in range(100):
            file.write(f"{'y' * 999_999}\n")
        file.write('"\n3,c\n')
    tracemalloc.start()
    rows = [row.row.get("prompt") for row in open_source(str(path), keep_bad=True).read()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == ["a", None, None, "c"]
    assert peak < 12 * MAX_LINE  # the parser has four bytes per character
