"""Parts of vectors: one type per column in all of them, one length of vector, nothing lost on the way back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.columns import column_kind
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import ColumnError, IncompleteOutputError, OutputError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.ledger.document import Header
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.output.vectors import VectorLines, VectorTable, dimensions, table_rows
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import remove_run, run_files

WRITERS = [VectorLines, VectorTable]
NULL_ERROR = "why"


def kinds_of(values):
    seen = set()
    for value in values:  # each in its own batch
        seen |= next(open_source([{"c": value}]).batches()).kinds("c")
    return column_kind(seen)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], "text"),
        ([None], "text"),
        (["a", None], "text"),
        ([True, None], "flag"),
        ([1, None, -(2**63), 2**63 - 1], "integer"),
        ([1, 2**63], "json"),
        ([1, 1.5], "number"),
        ([2**53, 1.5], "number"),
        ([2**53 + 1, 1.5], "json"),
        ([1.5, None], "number"),
        ([1, True], "json"),
        ([1, "1"], "json"),
        ([[1]], "json"),
        ([{"a": 1}, None], "json"),
    ],
)
def test_a_column_has_the_narrowest_type_that_represents_all_its_values(values, kind):
    assert kinds_of(values) == kind
    assert kinds_of(values[::-1]) == kind


def start_run(folder, rows, size, passthrough=("c",)):
    kinds = {
        column: column_kind(set().union(*(batch.kinds(column) for batch in open_source(rows).batches())))
        for column in passthrough
    }
    return Ledger.open(folder, Header({"task": "t"}, "s", len(rows), size, column_kinds=kinds))


def writer_for(writer_type, folder, ledger):
    return writer_type.for_run(folder, ["c"], ledger.totals, ledger.header.column_kinds)


def write_all(folder, writer_type, rows, vectors, size, *, fresh=True):
    """Write rows in chunks; with a new writer for each of them, as when each is done by another process."""
    ledger = start_run(folder, rows, size)
    writer = writer_for(writer_type, folder, ledger)
    for found in open_source(rows).chunks(size):
        if fresh:
            writer = writer_for(writer_type, folder, ledger)
        with ledger.transaction() as change:
            chunk = change.plan(found.start, found.after, "f")
        given = vectors[found.first_row : found.first_row + len(found.rows)]
        errors = [None if vector else NULL_ERROR for vector in given]
        failures = {row: FailureReason.PLATFORM_ERROR for row, error in enumerate(errors) if error}
        result = ChunkResult(given, [None] * len(given), errors, failures)
        writer.write(chunk.number, range(found.first_row, found.after.row), found.rows, result)
        with ledger.transaction() as change:
            change.finish(chunk, result.counts(sums=writer.sums(result)))
    return ledger, write_manifest(folder, ledger, model="m", source="s", suffix=writer.suffix)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("fresh", [True, False])
def test_written_rows_are_read_back(folder, writer, fresh):
    pytest.importorskip("pyarrow")
    rows = [{"c": value} for value in (1, "x", None, [1, {"y": None}], True, 2.5, 2**80)]
    vectors = [[0.5, -1.0], None, [0.25, 4.0], [1.0, 1.0], None, [2.0, 0.0], [0.0, 0.0]]
    ledger, manifest = write_all(folder, writer, rows, vectors, 2, fresh=fresh)
    assert [part.name.rpartition(".")[2] for part in manifest.parts] == [writer.suffix] * 4
    assert list(read_outputs(folder.location)) == [
        {"index": number, "c": row["c"], "embedding": vector, "error": None if vector else NULL_ERROR}
        for number, (row, vector) in enumerate(zip(rows, vectors, strict=True))
    ]
    assert ledger.totals == Counts(7, 5, 2, 0, {}, {"numbers": 10.0}, {"platform_error": 2})
    assert dimensions(ledger.totals) == 2
    remove_run(folder)
    assert run_files(folder) == []


values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
columns = st.one_of(
    st.lists(values | st.lists(values) | st.dictionaries(st.text(), values), min_size=1),
    *(
        st.lists(st.none() | kind, min_size=1)
        for kind in (
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
        )
    ),
)


@settings(deadline=None, max_examples=60)
@given(column=columns, size=st.integers(1, 4))
def test_any_column_survives_parquet_and_has_one_type_in_all_parts(tmp_path_factory, column, size):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    where = tmp_path_factory.mktemp("any")
    folder = OutputFolder(str(where))
    rows = [{"c": value} for value in column]
    write_all(folder, VectorTable, rows, [[1.0]] * len(rows), size)
    assert [row["c"] for row in read_outputs(folder.location)] == column
    assert len({parquet.read_schema(part) for part in where.glob("part-*")}) == 1


@pytest.mark.parametrize("writer", WRITERS)
def test_vectors_of_another_length_are_refused(folder, writer):
    pytest.importorskip("pyarrow")
    rows = [{"c": None}] * 4
    with pytest.raises(OutputError, match="have 2 and 3 numbers: was the model changed"):
        write_all(folder, writer, rows, [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0], None], 2)
    assert dimensions(Ledger.resume(folder, {"task": "t"}).totals) == 2


def test_parts_with_and_without_vectors_have_compatible_schemas(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import dataset, parquet

    vectors = [None, None, [1.0, 2.0], [3.0, 4.0], None, None]
    write_all(OutputFolder(str(tmp_path)), VectorTable, [{"c": "x"}] * 6, vectors, 2)
    parts = sorted(map(str, tmp_path.glob("part-*.parquet")))
    assert dataset.dataset(parts).to_table()["embedding"].to_pylist() == vectors
    assert dataset.dataset(parts[1:]).to_table()["embedding"].to_pylist() == vectors[2:]
    assert parquet.ParquetFile(parts[0]).schema.equals(parquet.ParquetFile(parts[1]).schema)


def test_writing_a_part_again_gives_the_same_file(tmp_path):
    pytest.importorskip("pyarrow")
    result = ChunkResult([[1.0, 2.0], None], [None, None], [None, "why"], {1: FailureReason.EMPTY})
    folder = OutputFolder(str(tmp_path))
    written = []
    for _ in range(2):
        VectorTable(folder, ["c"], kinds={"c": "integer"}).write(0, range(2), [{"c": 1}, {}], result)
        written.append(folder.read("part-00000.parquet"))
    assert written[0] == written[1]


def test_the_error_names_a_damaged_part(tmp_path):
    pytest.importorskip("pyarrow")
    folder = OutputFolder(str(tmp_path))
    write_all(folder, VectorTable, [{"c": 1}] * 3, [[1.0]] * 3, 2)
    folder.write("part-00001.parquet", folder.read("part-00001.parquet")[:-9])
    with pytest.raises(
        IncompleteOutputError, match=r"part-00001\.parquet is damaged: it is not a complete Parquet"
    ):
        list(read_outputs(folder.location))
    folder.write("part-00001.parquet", folder.read("part-00000.parquet"))
    with pytest.raises(IncompleteOutputError, match="row 2 is missing or in the wrong position"):
        list(read_outputs(folder.location))
    with pytest.raises(ValueError, match="not a complete Parquet file"):
        list(table_rows(b"PAR1"))


def test_columns_with_reserved_names_cannot_be_passed_through(tmp_path):
    VectorLines(OutputFolder(str(tmp_path)), ["output"])
    with pytest.raises(ColumnError, match="Reserved names: index, embedding, error"):
        VectorLines(OutputFolder(str(tmp_path)), ["embedding"])


def test_without_pyarrow_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from airflow_provider_lamini.rows.output.vectors import require_pyarrow\n"
        "from airflow_provider_lamini.rows.errors import MissingExtraError\n"
        "try:\n    require_pyarrow()\nexcept MissingExtraError as error:\n    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "airflow-provider-lamini[parquet]" in said.stdout
