"""Writes vectors instead of texts, as JSON Lines or as Parquet.

A part has one row per input row, in the same order: ``index``, the passthrough columns, ``embedding`` (``null`` if the
row failed) and ``error``. In Parquet, ``embedding`` is a list of 32-bit floats, of fixed size for readers that know
Arrow's types. A passthrough column has the same type in all parts: text, 64-bit integer, double or boolean. A column
with values of several kinds, lists or mappings contains them as JSON text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.columns import KIND_KEY
from airflow_provider_lamini.rows.errors import MissingExtraError, OutputError
from airflow_provider_lamini.rows.output.parts import PartWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    import pyarrow as pa

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

VECTOR_COLUMNS = ("index", "embedding", "error")
"""Columns of a part of vectors besides the passthrough columns."""

NUMBERS = "numbers"
"""Key of `Counts.sums` for the number of values in all vectors of a run."""


def require_pyarrow() -> None:
    """Make sure that Parquet can be written.

    :raises MissingExtraError: if pyarrow is not installed
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "Writing Parquet needs pyarrow: pip install 'airflow-provider-lamini[parquet]'; or write JSON Lines."
        ) from None


class VectorLines(PartWriter):
    """Writes vectors as JSON Lines.

    :param folder: the output folder
    :param passthrough: columns to copy into the output
    :param size: length of each vector, if it is known from earlier chunks
    """

    columns = VECTOR_COLUMNS
    reserved = (*VECTOR_COLUMNS, "error_reason")

    def __init__(
        self, folder: OutputFolder, passthrough: Sequence[str] = (), *, size: int | None = None
    ) -> None:
        super().__init__(folder, passthrough)
        self._size = size

    @classmethod
    def for_run(
        cls,
        folder: OutputFolder,
        passthrough: Sequence[str],
        totals: Counts,
        column_kinds: Mapping[str, ColumnKind],  # noqa: ARG003 - JSON needs no types
    ) -> Self:
        return cls(folder, passthrough, size=dimensions(totals))

    def write(
        self,
        number: int,
        indices: Sequence[int],
        rows: Sequence[Any],
        result: ChunkResult,
        *,
        again: bool = True,
    ) -> None:
        """Write the part of a chunk.

        :raises OutputError: also if vectors differ in length
        """
        sizes = {len(vector) for vector in result.outputs if vector is not None}
        if self._size is not None:
            sizes.add(self._size)
        if len(sizes) > 1:
            raise OutputError(
                f"The platform's vectors have {' and '.join(map(str, sorted(sizes)))} numbers: was the model changed "
                f"while the task ran? Nothing more was sent. Start over in another folder than {self._folder}."
            )
        self._size = next(iter(sizes), None)
        super().write(number, indices, rows, result, again=again)

    def sums(self, result: ChunkResult) -> dict[str, float]:
        return {NUMBERS: float(sum(len(vector) for vector in result.outputs if vector is not None))}

    def groups(self, result: ChunkResult) -> dict[str, int]:  # noqa: ARG002 - all vectors have the same length
        return {}

    def result_columns(self, result: ChunkResult) -> tuple[Sequence[object], ...]:
        return result.outputs, result.errors


class VectorTable(VectorLines):
    """Writes vectors as Parquet.

    :param folder: the output folder
    :param passthrough: columns to copy into the output
    :param size: length of each vector, if it is known from earlier chunks
    :param kinds: kind of values in each passthrough column, over the whole input
    """

    suffix = "parquet"

    def __init__(
        self,
        folder: OutputFolder,
        passthrough: Sequence[str] = (),
        *,
        size: int | None = None,
        kinds: Mapping[str, ColumnKind] | None = None,
    ) -> None:
        super().__init__(folder, passthrough, size=size)
        self._kinds = dict(kinds or {})

    @classmethod
    def for_run(
        cls,
        folder: OutputFolder,
        passthrough: Sequence[str],
        totals: Counts,
        column_kinds: Mapping[str, ColumnKind],
    ) -> Self:
        return cls(folder, passthrough, size=dimensions(totals), kinds=column_kinds)

    def content(
        self, indices: Sequence[int], columns: Sequence[Sequence[Json]], result: ChunkResult
    ) -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        passthrough = [
            self._column(name, values) for name, values in zip(self._columns, columns, strict=True)
        ]
        numbers = pa.float32()
        # Until the first vector arrives, the size is unknown. For Parquet itself both types are the same.
        vector = pa.list_(numbers, self._size) if self._size else pa.list_(numbers)
        fields = [
            (pa.field("index", pa.int64()), indices),
            *passthrough,
            (pa.field("embedding", vector), result.outputs),
            (pa.field("error", pa.string()), result.errors),
        ]
        table = pa.table(
            [pa.array(values, type=field.type) for field, values in fields],
            schema=pa.schema([field for field, _ in fields]),
        )
        sink = pa.BufferOutputStream()
        # The numbers of vectors hardly repeat, so a dictionary of them would only cost time.
        parquet.write_table(table, sink, use_dictionary=list(self._columns))
        content: bytes = sink.getvalue().to_pybytes()
        return content

    def _column(self, name: str, values: Sequence[Json]) -> tuple[pa.Field, Sequence[object]]:
        import pyarrow as pa

        types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
        kind = self._kinds.get(name, "json")
        if kind != "json":
            return pa.field(name, types[kind]), values
        encode = msgspec.json.Encoder().encode
        texts = [None if value is None else encode(value).decode() for value in values]
        return pa.field(name, pa.string(), metadata={KIND_KEY: b"json"}), texts


def dimensions(totals: Counts) -> int | None:
    """The length of the vectors of a run; ``None`` before there is one.

    :param totals: outcomes of the run's rows
    """
    return round(totals.sums.get(NUMBERS, 0) / totals.ok) or None if totals.ok else None


def table_rows(content: bytes) -> Iterator[dict[str, Any]]:
    """Read the rows of a part in Parquet.

    :param content: the part
    :raises ValueError: if it is damaged
    :raises MissingExtraError: if pyarrow is not installed
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError("it is not a complete Parquet file") from error
    json_columns = [field.name for field in table.schema if (field.metadata or {}).get(KIND_KEY) == b"json"]
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            for column in json_columns:
                row[column] = None if row[column] is None else msgspec.json.decode(row[column])
            yield row
