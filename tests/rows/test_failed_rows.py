"""The rows of an input that failed in an earlier run, read with the indices that they have in the whole input."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from airflow_provider_lamini.results import merge_shards, read_outputs
from airflow_provider_lamini.rows.errors import IncompleteOutputError, InputChangedError, OutputError
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.output.failed_rows import FailedRowsSource, read_failed_rows
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.output.parts import PartWriter
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage.folder import OutputFolder

TOTAL = 5000
FAILED = [0, 1, 7, 1023, 1024, 1025, 2499, 2500, 3000, 4999]


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(str(tmp_path / "out"))


def earlier_run(folder, source, failed=FAILED, *, passthrough=("id",), reason=FailureReason.EMPTY, size=1000):
    """Write a finished run over an input, in which some rows have failed."""
    total = sum(len(batch) for batch in source.batches())
    ledger = Ledger.open(folder, Header({"dag": "d"}, "s", total, size, source.version()))
    writer = PartWriter(folder, passthrough)
    for chunk_rows in source.chunks(size):
        with ledger.transaction() as change:
            chunk = change.plan(chunk_rows.start, chunk_rows.after, "f")
        result = ChunkResult(["x"] * chunk.rows, ["stop"] * chunk.rows, [None] * chunk.rows)
        for index in set(failed).intersection(source.indices(chunk.first_row, chunk.rows)):
            result.fail(index - chunk.first_row, RowFailure(reason, "bad"))
        writer.write(chunk.number, source.indices(chunk.first_row, chunk.rows), chunk_rows.rows, result)
        with ledger.transaction() as change:
            change.finish(chunk, result.counts())
    write_manifest(folder, ledger, model="m", source="s")


def rows_from(first, last):
    return [{"id": number, "text": f"text {number}"} for number in range(first, last)]


def write_files(form, tmp_path, total=TOTAL):
    """Write an input in two files of different lengths, or return a list."""
    if form == "list":
        return rows_from(0, total)
    for name, first, last in (("a", 0, total // 2), ("b", total // 2, total)):
        path, rows = tmp_path / f"{name}.{form}", rows_from(first, last)
        if form in {"jsonl", "jsonl.gz"}:
            content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
            path.write_bytes(gzip.compress(content) if form == "jsonl.gz" else content)
        elif form == "csv":
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([("id", "text"), *(row.values() for row in rows)])
        else:
            pa = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)
    return str(tmp_path / f"*.{form}")


@pytest.mark.parametrize("form", ["list", "jsonl", "jsonl.gz", "csv", "parquet"])
def test_they_are_the_same_rows_from_wherever_reading_continues(form, tmp_path, folder):
    whole = open_source(write_files(form, tmp_path))
    earlier_run(folder, whole)
    source = FailedRowsSource(whole, read_failed_rows(folder))
    assert list(source.indices(0, len(FAILED))) == FAILED
    expected = [f"text {number}" for number in FAILED]
    assert [found.row["text"] for found in source.read(columns=["text"])] == expected
    chunks = list(source.chunks(3, columns=["text"]))
    assert [len(chunk.rows) for chunk in chunks] == [3, 3, 3, 1]
    for position in (*reversed(chunks), *chunks):
        for reader in (ChunkReader(source, ["text"]), ChunkReader(source, ["id", "text"])):
            chunk = reader.read(position.start, 3)
            texts = [row["text"] for row in chunk.rows]
            assert texts == expected[position.first_row : position.first_row + 3]
            following = reader.read(chunk.after, 3)
            after = [row["text"] for row in following.rows] if following else []
            assert after == expected[position.first_row + 3 : position.first_row + 6]


def test_messages_name_a_row_by_its_index_in_the_whole_input(tmp_path, folder):
    whole = open_source(write_files("jsonl", tmp_path))
    earlier_run(folder, whole)
    batches = list(FailedRowsSource(whole, read_failed_rows(folder)).batches())
    found = [batch.describe_row(offset) for batch in batches for offset in range(len(batch))]
    assert found[3] == "row 1023 (a.jsonl, line 1024)"
    assert found[-1] == "row 4999 (b.jsonl, line 2500)"


def test_an_input_whose_rows_have_moved_is_refused(tmp_path, folder):
    earlier_run(folder, open_source(write_files("jsonl", tmp_path)))
    moved = [{"id": -1, "text": "new"}, *rows_from(0, TOTAL)]
    source = FailedRowsSource(open_source(moved), read_failed_rows(folder))
    with pytest.raises(InputChangedError, match=r"row 0 \(item 0 .* is not the row that failed"):
        list(source.batches(columns=["text"]))


def test_a_shorter_input_is_refused(tmp_path, folder):
    earlier_run(folder, open_source(write_files("jsonl", tmp_path)))
    source = FailedRowsSource(open_source(rows_from(0, 2600)), read_failed_rows(folder))
    with pytest.raises(InputChangedError, match="has no row 3000"):
        list(source.batches(columns=["text"]))


def test_without_passthrough_columns_only_the_same_input_is_taken(tmp_path, folder):
    whole = open_source(write_files("jsonl", tmp_path))
    earlier_run(folder, whole, passthrough=())
    failed = read_failed_rows(folder)
    assert len(list(FailedRowsSource(whole, failed).read(columns=["text"]))) == len(FAILED)
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "other"}\n')
    with pytest.raises(InputChangedError, match="has no passthrough columns"):
        FailedRowsSource(open_source(str(tmp_path / "*.jsonl")), failed)


def test_a_column_of_the_prompt_may_have_been_corrected_if_there_is_another_one(folder):
    rows = [{"id": number, "text": f"text {number}", "user": {"name": "a"}} for number in range(20)]
    earlier_run(folder, open_source(rows), [3, 5], passthrough=("text", "id", "user"))
    rows[5] = {"id": 5, "text": "corrected", "user": {"name": "b"}}
    prompt_columns = ["text", "user.name"]
    source = FailedRowsSource(open_source(rows), read_failed_rows(folder, prompt_columns))
    assert [found.row["text"] for found in source.read(columns=["text"])] == ["text 3", "corrected"]
    rows[5]["id"] = 6
    moved = FailedRowsSource(open_source(rows), read_failed_rows(folder, prompt_columns))
    with pytest.raises(InputChangedError, match="row 5"):
        list(moved.batches(columns=["text"]))


def test_without_another_column_rows_are_recognized_by_those_of_the_prompt(folder):
    rows = rows_from(0, 20)
    earlier_run(folder, open_source(rows), [3, 5], passthrough=("text",))
    longer = [*rows, {"id": 20, "text": "one more"}]
    source = FailedRowsSource(open_source(longer), read_failed_rows(folder, ["text"]))
    assert [found.row["id"] for found in source.read(columns=["text", "id"])] == [3, 5]
    longer[5]["text"] = "corrected"
    changed = FailedRowsSource(open_source(longer), read_failed_rows(folder, ["text"]))
    with pytest.raises(InputChangedError, match="row 5"):
        list(changed.batches(columns=["text"]))


def test_rows_that_could_not_be_read_are_found_by_their_number_and_that_is_said(folder):
    earlier_run(folder, open_source(rows_from(0, 20)), [3, 5], reason=FailureReason.BAD_ROW)
    corrected = [{**row, "id": f"new {row['id']}"} for row in rows_from(0, 20)]
    source = FailedRowsSource(open_source(corrected), read_failed_rows(folder))
    assert [found.row["id"] for found in source.read(columns=["text"])] == ["new 3", "new 5"]
    assert "2 rows that could not be read then can be found by number only" in source.notes()


def test_a_run_without_failed_rows_gives_none(tmp_path, folder):
    whole = open_source(write_files("jsonl", tmp_path))
    earlier_run(folder, whole, [])
    source = FailedRowsSource(whole, read_failed_rows(folder))
    assert list(source.batches()) == list(source.indices(0, 1)) == []


def test_an_incomplete_earlier_run_is_refused(folder):
    with pytest.raises(IncompleteOutputError, match="has no manifest"):
        read_failed_rows(folder)
    earlier_run(folder, open_source(rows_from(0, 20)), [3, 15], size=10)
    name = "errors-00001.jsonl"
    content = folder.read(name)
    for damaged, message in [
        (content * 2, "do not have the 2 failed rows"),
        (b"", "do not have the 2 failed rows"),
        (content[:-9], "is damaged"),
        (content.replace(b"index", b"INDEX"), "is damaged"),
    ]:
        folder.write(name, damaged)
        with pytest.raises(IncompleteOutputError, match=message):
            read_failed_rows(folder)
    folder.delete(name)
    with pytest.raises(IncompleteOutputError, match="is missing"):
        read_failed_rows(folder)


def sent_again(folder, indices, size=2):
    """Write the results of a run that has sent only some rows of an input."""
    ledger = Ledger.open(folder, Header({"dag": "d"}, "s", len(indices), size))
    for chunk_rows in open_source(rows_from(0, len(indices))).chunks(size):
        with ledger.transaction() as change:
            chunk = change.plan(chunk_rows.start, chunk_rows.after, "f")
        result = ChunkResult(["x"] * chunk.rows, ["stop"] * chunk.rows, [None] * chunk.rows)
        own = indices[chunk.first_row : chunk.first_row + chunk.rows]
        PartWriter(folder).write(chunk.number, own, chunk_rows.rows, result)
        with ledger.transaction() as change:
            change.finish(chunk, result.counts())
    write_manifest(folder, ledger, model="m", source="s", only_failed_of="first", index=indices.__getitem__)


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:1],
        lambda lines: lines[::-1],
        lambda lines: [lines[0], lines[0]],
        lambda lines: [*lines, lines[1].replace(b"40", b"41")],
        lambda lines: [lines[0], b'{"output":"x"}\n'],
    ],
    ids=["first lost", "last lost", "swapped", "doubled", "one more", "no index"],
)
def test_their_results_are_read_with_gaps_but_no_row_may_be_missing(folder, damage):
    sent_again(folder, [3, 7, 30, 40, 41])
    assert [row["index"] for row in read_outputs(folder.location)] == [3, 7, 30, 40, 41]
    name = "part-00001.jsonl"
    folder.write(name, b"".join(damage(folder.read(name).splitlines(keepends=True))))
    with pytest.raises(IncompleteOutputError, match=name):
        list(read_outputs(folder.location))


def test_their_results_are_no_shard(folder, tmp_path):
    sent_again(folder, [3, 7])
    with pytest.raises(OutputError, match="has only rows that failed in first"):
        merge_shards([folder.location], str(tmp_path / "all"))
