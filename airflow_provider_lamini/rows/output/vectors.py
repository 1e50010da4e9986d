"""Parts of vectors instead of texts, as JSON Lines or as Parquet.

A part has a row per input row, in their order: ``index``, the columns that are passed through, ``embedding``
(``null`` where the row failed) and ``error``. In Parquet ``embedding`` is a list of as many ``float`` as the
model's vectors have, of fixed size for readers that know Arrow's types. The columns that are passed through have
one type in all parts: text, 64-bit integer, double or boolean; one with values of several kinds, lists or mappings
holds them as JSON text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.errors import MissingExtraError, OutputError
from airflow_provider_lamini.rows.output.parts import PartWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    import pyarrow as pa

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

VECTOR_COLUMNS = ("index", "embedding", "error")
"""What a part of vectors has beside the columns that are passed through."""

NUMBERS = "numbers"
"""The sum, in a run's counts, of the numbers in all its vectors."""

_KIND = b"lamini.kind"


def require_pyarrow() -> None:
    """Make sure that Parquet can be written.

    :raises MissingExtraError: without pyarrow
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Writing Parquet needs pyarrow. Install airflow-provider-lamini[parquet], or write JSON Lines."
        ) from error


class VectorLines(PartWriter):
    """Writes vectors as JSON Lines.

    :param folder: the folder
    :param passthrough: columns that go into the output, already checked
    :param size: numbers of each vector, where earlier chunks have told
    """

    reserved = VECTOR_COLUMNS

    def __init__(
        self, folder: OutputFolder, passthrough: Sequence[str] = (), *, size: int | None = None
    ) -> None:
        super().__init__(folder, passthrough)
        self._size = size

    @classmethod
    def of_run(cls, folder: OutputFolder, passthrough: Sequence[str], ledger: Ledger) -> Self:
        """See `PartWriter.of_run`."""
        return cls(folder, passthrough, size=dimensions(ledger))

    def write(self, number: int, first_row: int, rows: Sequence[Any], result: ChunkResult) -> None:
        """Write a chunk's part; see `PartWriter.write`.

        :raises OutputError: where vectors differ in length, too
        """
        sizes = {len(vector) for vector in result.outputs if vector is not None}
        if self._size is not None:
            sizes.add(self._size)
        if len(sizes) > 1:
            raise OutputError(
                f"The platform's vectors have {' and '.join(map(str, sorted(sizes)))} numbers: was the model changed "
                f"while the task ran? Nothing more was sent. Begin anew in another folder than {self._folder}."
            )
        self._size = next(iter(sizes), None)
        super().write(number, first_row, rows, result)

    def sums(self, result: ChunkResult) -> dict[str, float]:
        """See `PartWriter.sums`: the numbers in all vectors."""
        return {NUMBERS: float(sum(len(vector) for vector in result.outputs if vector is not None))}

    def _answers(self, result: ChunkResult) -> tuple[Sequence[object], ...]:
        return result.outputs, result.errors


class VectorTable(VectorLines):
    """Writes vectors as Parquet.

    :param folder: the folder
    :param passthrough: columns that go into the output, already checked
    :param size: numbers of each vector, where earlier chunks have told
    :param kinds: what is in the columns that are passed through, over the whole input
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
    def of_run(cls, folder: OutputFolder, passthrough: Sequence[str], ledger: Ledger) -> Self:
        """See `PartWriter.of_run`."""
        return cls(folder, passthrough, size=dimensions(ledger), kinds=ledger.header.kinds)

    def _part(self, first_row: int, columns: Sequence[Sequence[Json]], result: ChunkResult) -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        through = [self._column(name, values) for name, values in zip(self._columns, columns, strict=True)]
        numbers = pa.float32()
        # Without a single vector so far the size is not known: for Parquet itself it is the same type.
        kind = pa.list_(numbers, self._size) if self._size else pa.list_(numbers)
        fields = [
            (pa.field("index", pa.int64()), range(first_row, first_row + len(result))),
            *through,
            (pa.field("embedding", kind), result.outputs),
            (pa.field("error", pa.string()), result.errors),
        ]
        table = pa.table(
            [pa.array(values, type=field.type) for field, values in fields],
            schema=pa.schema([field for field, _ in fields]),
        )
        sink = pa.BufferOutputStream()
        # No two numbers of vectors are alike: a dictionary of them would only cost.
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
        return pa.field(name, pa.string(), metadata={_KIND: b"json"}), texts


def dimensions(ledger: Ledger) -> int | None:
    """How many numbers each vector of a run has; ``None`` before there is one.

    :param ledger: the run's
    """
    totals = ledger.totals
    return round(totals.sums.get(NUMBERS, 0) / totals.ok) or None if totals.ok else None


def table_rows(content: bytes) -> Iterator[dict[str, Any]]:
    """The rows of a part in Parquet.

    :param content: the part
    :raises ValueError: where it is damaged
    :raises MissingExtraError: without pyarrow
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError("it is not a whole Parquet file") from error
    packed = [field.name for field in table.schema if (field.metadata or {}).get(_KIND) == b"json"]
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            for column in packed:
                row[column] = None if row[column] is None else msgspec.json.decode(row[column])
            yield row
