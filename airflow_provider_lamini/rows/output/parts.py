"""Writes finished chunks as files.

A finished chunk is a file ``part-00000.jsonl`` with one line per input row, in the same order::

    {"index": 0, <the passthrough columns>, "output": ..., "finish_reason": "stop", "error": null}

``index`` numbers the rows of the whole input from 0; in a run that sends only failed rows, the others are missing. Every
line has all keys. ``error`` is null if the row has an output; otherwise it is a text and ``output`` is null.
``finish_reason`` is null if the platform gave none. More columns may follow the output (`text_writer`). Failed rows are
repeated in ``errors-00000.jsonl`` as ``{"index", <the passthrough columns>, "error_reason", "error"}``, with a reason out of
`FailureReason`; without failed rows there is no such file. Neither file contains prompts, unless their columns are passed
through.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import ColumnError, OutputError
from airflow_provider_lamini.rows.output.chunk_result import DECODER, ChunkResult, RowUsage
from airflow_provider_lamini.rows.output.groups import length_chart, rows_by_length
from airflow_provider_lamini.rows.storage.run_files import errors_name, part_name, partial_name
from airflow_provider_lamini.rows.values import kind
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.output.groups import Chart
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.values import Row

COLUMNS = ("index", "output", "finish_reason", "error")
"""Keys of an output line besides the passthrough columns."""
ERROR_COLUMNS = ("error_reason", "error")
"""Keys of a line of an errors file after the passthrough columns."""
RESERVED = (*COLUMNS, "error_reason")
"""Keys that no passthrough column may have."""

USAGE_COLUMNS = RowUsage.__struct_fields__
"""Keys of what a row has used, after its output."""

_LINES_PER_BLOCK = 1000


def check_passthrough(columns: object, reserved: Sequence[str] = RESERVED) -> tuple[str, ...]:
    """Validate the columns that are copied into the output.

    :param columns: a list of column names, or ``None``
    :param reserved: names that the output uses itself
    :return: the column names
    :raises ColumnError: if an entry is not a text, occurs twice or is reserved
    """
    if columns is None:
        return ()
    if isinstance(columns, str) or not isinstance(columns, (list, tuple)):
        raise ColumnError(f"passthrough is {kind(columns)}. Pass a list of columns, such as ['id'].")
    for column in columns:
        if not isinstance(column, str) or not column:
            raise ColumnError(
                f"passthrough has an entry that is not a column name, but {'empty' if column == '' else kind(column)}. "
                "Pass a list of columns, such as ['id']."
            )
        if column in reserved:
            raise ColumnError(
                f"passthrough: the output has its own column {column!r}. Rename that column of the input. "
                f"Reserved names: {', '.join(reserved)}."
            )
        if columns.count(column) > 1:
            raise ColumnError(f"passthrough names the column {column!r} more than once.")
    return tuple(columns)


class PartWriter:
    """Writes finished chunks to a folder, each as a part in JSON Lines.

    :param folder: the output folder
    :param passthrough: columns to copy into the output
    """

    suffix = "jsonl"
    """File name suffix of the parts."""
    columns: tuple[str, ...] = COLUMNS
    """Columns of a part besides the passthrough columns: ``index`` before them, the others after them."""
    reserved: tuple[str, ...] = RESERVED
    """Names that no passthrough column may have."""

    def __init__(self, folder: OutputFolder, passthrough: Sequence[str] = ()) -> None:
        self._folder = folder
        self._columns = check_passthrough(list(passthrough), self.reserved)
        self._encoder = msgspec.json.Encoder()
        self._line = _line_type("Line", self._columns, self.columns[1:])
        self._error_line = _line_type("ErrorLine", self._columns, ERROR_COLUMNS)

    @classmethod
    def for_run(
        cls,
        folder: OutputFolder,
        passthrough: Sequence[str],
        totals: Counts,  # noqa: ARG003 - for writers that need it
        column_kinds: Mapping[str, ColumnKind],  # noqa: ARG003
    ) -> Self:
        """Create the writer of a run, new or resumed.

        :param folder: the output folder
        :param passthrough: columns to copy into the output
        :param totals: outcomes of the rows in the parts that exist already
        :param column_kinds: kind of values in each passthrough column
        """
        return cls(folder, passthrough)

    def write(
        self,
        number: int,
        indices: Sequence[int],
        rows: Sequence[Row],
        result: ChunkResult,
        *,
        again: bool = True,
    ) -> None:
        """Write the part of a chunk and, if rows failed, its errors file. Writing again produces the same files.

        On an object store, they are only there after `OutputFolder.settle`.

        :param number: the chunk's number
        :param indices: the indices of its rows
        :param rows: its rows, as they were read
        :param result: their results
        :param again: whether they may have been written before, with other results
        :raises OutputError: if there are more or fewer results than rows, or the folder cannot be written to
        """
        if len(rows) != len(result):
            raise OutputError(f"Chunk {number} has {len(rows)} rows, but results for {len(result)}.")
        columns = [column_of(rows, column) for column in self._columns]
        failed = result.failed
        if failed:
            error_lines = (
                self._error_line(
                    indices[row],
                    *(column[row] for column in columns),
                    result.failures[row].value,
                    result.errors[row],
                )
                for row in failed
            )
            self._folder.write_later(errors_name(number), self._encoded(error_lines))
        elif again:
            self._folder.delete(errors_name(number))
        self._folder.write_later(part_name(number, self.suffix), self.content(indices, columns, result))

    def sums(self, result: ChunkResult) -> dict[str, float]:  # noqa: ARG002 - for writers that sum something
        """Sums over the rows of a chunk that the ledger keeps."""
        return {}

    def groups(self, result: ChunkResult) -> dict[str, int]:
        """Rows with an output of a chunk by a property of the output, for the report: texts by their length.

        :param result: the results
        """
        return rows_by_length(result.outputs)

    @staticmethod
    def chart(groups: Mapping[str, int]) -> Chart:
        """How the report shows what `groups` has counted.

        :param groups: rows by group, of all chunks
        """
        return length_chart(groups)

    def content(
        self, indices: Sequence[int], columns: Sequence[Sequence[Json]], result: ChunkResult
    ) -> bytes | Iterator[bytes]:
        """The content of a part.

        :param indices: the indices of its rows
        :param columns: values of the passthrough columns
        :param result: results of its rows
        """
        # No Python code runs per row: this handles millions of rows.
        return self._encoded(map(self._line, indices, *columns, *self.result_columns(result)))

    def result_columns(self, result: ChunkResult) -> tuple[Sequence[object], ...]:
        """The columns after the passthrough columns."""
        return tuple(_VALUES[name](result) for name in self.columns[1:])

    def save_partial(self, number: int, rounds: int, result: ChunkResult) -> None:
        """Save the results of a chunk so far, before its failed rows are sent again.

        On an object store, they are only there after `OutputFolder.settle`.

        :param number: the chunk's number
        :param rounds: number of rounds that the results come from
        :param result: the results
        """
        self._folder.write_later(partial_name(number, rounds), self._encoder.encode(result))

    def load_partial(self, number: int, rounds: int, rows: int) -> ChunkResult | None:
        """Load what `save_partial` saved; ``None`` if there is nothing.

        :param number: the chunk's number
        :param rounds: number of rounds that the results come from
        :param rows: number of rows of the chunk
        :raises OutputError: if the file is damaged
        """
        name = partial_name(number, rounds)
        try:
            result = DECODER.decode(self._folder.read(name))
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise OutputError(
                f"{self._folder.uri(name)} is damaged. Remove it; its rows are then sent again."
            ) from None
        if len(result) != rows:
            raise OutputError(
                f"{self._folder.uri(name)} has {counted(len(result), 'row')} instead of {rows}. Remove it; its rows are then "
                "sent again."
            )
        return result

    def _encoded(self, lines: Iterable[msgspec.Struct]) -> Iterator[bytes]:
        remaining = iter(lines)
        while block := list(islice(remaining, _LINES_PER_BLOCK)):
            yield self._encoder.encode_lines(block)


@lru_cache
def text_writer(*, reasoning: bool, usage: bool) -> type[PartWriter]:
    """The writer of outputs in JSON Lines, with more columns behind the output.

    :param reasoning: with ``reasoning``, what the model has thought, or null
    :param usage: with `USAGE_COLUMNS`; they are null for rows that were not answered in this run, and tokens also if the
        platform has not counted them
    """
    more = (*(("reasoning",) if reasoning else ()), *(USAGE_COLUMNS if usage else ()))

    class TextWriter(PartWriter):
        columns = (*COLUMNS[:2], *more, *COLUMNS[2:])
        reserved = (*columns, "error_reason")

    return TextWriter if more else PartWriter


def _used(name: str) -> Callable[[ChunkResult], Sequence[object]]:
    """A column of `USAGE_COLUMNS`."""
    return lambda result: [getattr(result.usage.get(row), name, None) for row in range(len(result))]


_VALUES: Mapping[str, Callable[[ChunkResult], Sequence[object]]] = {
    "output": attrgetter("outputs"),
    "reasoning": lambda result: list(map(result.reasoning.get, range(len(result)))),
    **{name: _used(name) for name in USAGE_COLUMNS},
    "finish_reason": attrgetter("finish_reasons"),
    "error": attrgetter("errors"),
}
"""The columns after the passthrough columns, by their names."""


@lru_cache(16)
def _line_type(
    name: str, passthrough: tuple[str, ...], results: tuple[str, ...]
) -> Callable[..., msgspec.Struct]:
    """A struct that is encoded as an output line with these columns, which is far faster than a dictionary."""
    fields = [f"column_{number}" for number in range(len(passthrough))]
    return msgspec.defstruct(
        name,
        [("index", int), *((field, Any) for field in (*fields, *results))],
        rename=dict(zip(fields, passthrough, strict=True)),
        gc=False,
    )
