"""Memory depends on the size of a chunk, not on the number of rows."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import validate_input

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults

SCRIPT = """
import sys
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.hashes import fingerprint, row_keys
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.output.parts import PartWriter
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import needed_columns, validate_input

path, output = sys.argv[1:]
source, folder, prompt = open_source(path), OutputFolder(output), PromptTemplate.parse("Say: {text}")
summary = validate_input(source, prompt, passthrough=["id"])
ledger = Ledger.open(folder, Header({"task": "t"}, "s", summary.total_rows, 1000))
writer = PartWriter(folder, ["id"])
for found in source.chunks(1000, columns=needed_columns(prompt, ["id"])):
    prompts = prompt.render_all(found.rows)
    with ledger.transaction() as change:
        chunk = change.plan(found.start, found.after, fingerprint(row_keys(prompts)))
    result = ChunkResult(prompts, ["stop"] * chunk.rows, [None] * chunk.rows)
    writer.write(chunk.number, source.indices(chunk.first_row, chunk.rows), found.rows, result)
    with ledger.transaction() as change:
        change.finish(chunk, result.counts())
write_manifest(folder, ledger, model="m", source="s")
assert sum(1 for _ in read_outputs(folder.location)) == summary.total_rows
status = open("/proc/self/status").read()
print(summary.total_rows, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


SMALL, LARGE = 40_000, 240_000
"""Numbers of rows. The small file already has several row groups of Parquet, one of which is read ahead."""


def write_rows(path: Path, count: int) -> None:
    """Write an input file in the format of its suffix."""
    text = "It stopped working after the update, please help. " * 4
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        with pq.ParquetWriter(
            path, pa.schema({"id": pa.int64(), "text": pa.string(), "more": pa.string()})
        ) as file:
            for first in range(0, count, 20_000):
                ids = range(first, first + 20_000)
                columns = {"id": ids, "text": [f"{text}{number}" for number in ids], "more": [text] * 20_000}
                file.write_table(pa.table(columns))
        return
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("id,text,more\n")
            file.writelines(f'{number},"{text}, ""{number}""","{text}"\n' for number in range(count))
        else:
            file.writelines(
                f'{{"id":{number},"text":"{text}{number}","more":"{text}"}}\n' for number in range(count)
            )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_peak_memory_is_the_same_for_six_times_the_rows(tmp_path, suffix):
    peaks = []
    for count in (SMALL, LARGE):
        path = tmp_path / f"{count}{suffix}"
        write_rows(path, count)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / f"out-{count}")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        total, peak = done.stdout.split()
        assert int(total) == count
        peaks.append(float(peak))
    print(suffix, peaks)
    assert peaks[1] <= peaks[0] * 1.1 + 2, f"MiB for {SMALL} and {LARGE} rows: {peaks}"


TABLES = {
    "pandas": lambda columns: pytest.importorskip("pandas").DataFrame(columns),
    "polars": lambda columns: pytest.importorskip("polars").DataFrame(columns),
    "arrow": lambda columns: pytest.importorskip("pyarrow").table(columns),
}


def read_table(table) -> int:
    """Read a table as a task does; return the number of its rows."""
    source = open_source(table)
    summary = validate_input(source, PromptTemplate.parse("Say: {text}"), passthrough=["id"])
    assert source.version()
    assert sum(len(chunk.rows) for chunk in source.chunks(1000)) == summary.total_rows
    return summary.total_rows


PAGES = {
    "one table": lambda table: table,
    "pages": lambda table: [
        [],
        table[:0],
        *(table[begin : begin + 700] for begin in range(0, len(table), 700)),
    ],
}


@pytest.mark.parametrize("pages", PAGES)
@pytest.mark.parametrize("library", TABLES)
def test_rows_of_a_table_are_made_in_batches(library, pages):
    peaks = []
    for count in (10, 2_000, 10_000):  # the first time, the library loads what it needs
        columns = {"id": list(range(count)), "text": [f"a text {number}" for number in range(count)]}
        table = PAGES[pages](TABLES[library](columns))
        tracemalloc.start()
        assert read_table(table) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] <= peaks[1] * 1.5, f"bytes for {library}: {peaks}"


def test_batches_of_arrow_and_the_list_of_their_rows_are_the_same_input():
    rows = [{"id": number, "text": f"a text {number}"} for number in range(3000)]
    batches = pytest.importorskip("pyarrow").Table.from_pylist(rows).to_batches(max_chunksize=999)
    assert open_source(batches).version() == open_source(rows).version()
    assert [found.row for found in open_source(batches).read(Position(998))] == rows[998:]


def test_a_table_and_the_list_of_its_rows_are_the_same_input():
    rows = [{"id": number, "text": f"a text {number}"} for number in range(3000)]
    table = pytest.importorskip("pyarrow").Table.from_pylist(rows)
    assert open_source(table).version() == open_source(rows).version()
    assert [found.row for found in open_source(table).read(Position(2500))] == rows[2500:]
