"""Temporary files have no names, so a killed process leaves none of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lamini.corpus.pairs import Columns, PairReader, dataset_file
from airflow_provider_lamini.exceptions import StorageError
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage import objects
from airflow_provider_lamini.rows.storage.local import TemporaryFile
from airflow_provider_lamini.rows.storage.objects import ObjectStore
from airflow_provider_lamini.runs.task_errors import as_argument_errors

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from airflow_provider_lamini.corpus.pairs import Columns, PairReader, dataset_file
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source

rows = FunctionInput("make", lambda: [{"input": "question", "output": "answer"}])
with dataset_file(PairReader(open_source(rows), Columns.parse("input", "output"))) as dataset:
    sys.stdout.buffer.write(dataset.file.open().read())
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, temporary files have names")
def test_a_killed_process_leaves_neither_its_dataset_nor_the_rows_of_a_function(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert killed.stdout == b'{"input":"question","output":"answer"}\n'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("named", [False, True])
def test_a_temporary_file_is_opened_again_by_its_path_until_it_is_closed(monkeypatch, tmp_path, named):
    if named:
        monkeypatch.setattr("airflow_provider_lamini.rows.storage.local._OPEN_FILES", tmp_path / "none")
    with TemporaryFile() as file:
        file.write(b"rows")
        path = file.path()
        with path.open("rb") as first, path.open("rb") as second:
            assert (first.read(), second.read()) == (b"rows", b"rows")
    assert not path.exists()


def test_rows_of_a_function_are_read_again_until_their_source_is_gone():
    source = open_source(FunctionInput("make", lambda: ({"prompt": f"row {row}"} for row in range(3))))
    for _ in range(2):
        assert [row.row["prompt"] for row in source.read()] == ["row 0", "row 1", "row 2"]


def test_what_is_too_large_for_memory_is_written_to_a_store_as_a_whole(monkeypatch):
    monkeypatch.setattr(objects, "_SPOOL", 10)
    store = ObjectStore(MemoryFileSystem())
    store.write("/large", iter([b"a block\n", b"another block\n"]), durable=True)
    assert store.read("/large") == b"a block\nanother block\n"
    store.delete("/large")


@pytest.fixture
def full_disk(monkeypatch):
    """A disk for temporary files that takes nothing."""
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "r+b"))


def many_rows():
    return ({"input": f"question {row} " + "x" * 1000, "output": "answer"} for row in range(100))


def write_dataset():
    source = open_source([*many_rows()])
    with dataset_file(PairReader(source, Columns.parse("input", "output"))):
        pass


def write_large_object():
    ObjectStore(MemoryFileSystem()).write("/large", iter([b"x" * 20_000_000]), durable=True)


WRITERS = {
    "a dataset": write_dataset,
    "rows of a function": lambda: open_source(FunctionInput("make", many_rows)),
    "a few rows of a function": lambda: open_source(FunctionInput("make", lambda: ["a"])),
    "a large object": write_large_object,
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_for_temporary_files_is_named_and_not_that_of_the_output(writer):
    with (
        pytest.raises(
            StorageError,
            match=r"worker's disk for temporary files \(.*\) is full.*set TMPDIR.*Nothing was sent",
        ),
        as_argument_errors(),
    ):
        WRITERS[writer]()


def test_a_missing_folder_for_temporary_files_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"none\) cannot be used \(No such file"), as_argument_errors():
        write_dataset()
