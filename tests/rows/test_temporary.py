"""Temporary files have no names, so a killed process leaves none of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage import objects
from airflow_provider_lamini.rows.storage.local import path_of, temporary_file
from airflow_provider_lamini.rows.storage.objects import ObjectStore

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from airflow_provider_lamini.corpus.pairs import Columns, dataset_file
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import open_source

rows = FunctionInput("make", lambda: [{"input": "question", "output": "answer"}])
with dataset_file(open_source(rows), Columns.parse("input", "output")) as dataset:
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
    with temporary_file() as file:
        file.write(b"rows")
        file.flush()
        path = path_of(file)
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
