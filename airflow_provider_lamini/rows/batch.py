"""Rows as readers return them: batches, single rows and chunks; and positions in an input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import column_of, kinds_of
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.texts import any_blank, any_conversation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_provider_lamini.rows.values import Row

_ENCODER = msgspec.json.Encoder()

MAX_LINE = 16 * 1024 * 1024
"""Maximum size of a line or a CSV field, in bytes."""


class Position(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A position between two rows of an input, from which reading can continue.

    :param row: number of rows of the whole input before it
    :param file: number of the file, in the order of the source
    :param offset: bytes of the (uncompressed) file before it; for Parquet, row groups before it
    :param line: lines of the file before it; for Parquet, rows of the row group before it
    """

    row: int = 0
    file: int = 0
    offset: int = 0
    line: int = 0


def bad_row(error: Exception) -> RowFailure:
    """The failure of a row that cannot be used.

    :param error: what is wrong with it, without its content
    """
    return RowFailure(FailureReason.BAD_ROW, str(error))


class Batch(ABC):
    """Some consecutive rows of one file, as many as are convenient to decode at once.

    :param rows: the rows
    :param start: position of the first row
    :param checked: whether the reader has made sure that each required column has a value in each row
    :param bad: rows that cannot be used, by offset; the reader has put an empty row, or one without the bad value, there

    :ivar bad: the same; complete once `rows` or `check` was used
    """

    def __init__(
        self,
        rows: Sequence[Row],
        start: Position,
        *,
        checked: bool = False,
        bad: dict[int, RowFailure] | None = None,
    ) -> None:
        self._rows = rows
        self.start = start
        self.checked = checked
        self.bad = bad or {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        return self._rows

    def __len__(self) -> int:
        return len(self.rows)

    def check(self) -> None:  # noqa: B027 - most readers have checked this already
        """Make sure that each value can be written as JSON, if only `rows` would notice that.

        :raises BadRowError: for a value that cannot
        """

    def characters(self, column: str) -> int:
        """Characters of all texts in a column; of other values, those of their JSON."""
        values = column_of(self.rows, column)
        try:
            return sum(map(len, values))  # type: ignore[arg-type] # see below
        except TypeError:  # a value is not a text
            pass
        return sum(
            len(value if isinstance(value, str) else _ENCODER.encode(value).decode())
            for value in values
            if value is not None
        )

    def has_blank(self, column: str) -> bool:
        """Whether any row has a blank text in a column (`texts.is_blank`)."""
        return any_blank(column_of(self.rows, column))

    def has_conversation(self, column: str) -> bool:
        """Whether any row has a conversation in a column (`texts.is_conversation`)."""
        return any_conversation(column_of(self.rows, column))

    def first_missing(self, column: str) -> int | None:
        """Offset of the first row without a value in a column; ``None`` if all rows have one."""
        values = column_of(self.rows, column)
        return values.index(None) if None in values else None

    def has(self, column: str) -> bool:
        """Whether any row has a column, even without a value."""
        return any(column in row for row in self.rows)

    def kinds(self, column: str) -> set[type]:
        """The types of the values in a column (`columns.kinds_of`)."""
        return kinds_of(column_of(self.rows, column))

    @abstractmethod
    def after(self, count: int) -> Position:
        """The position after the first ``count`` rows of the batch."""

    @abstractmethod
    def location(self, offset: int) -> str:
        """File and line of the row at ``offset``, for a person."""

    def describe_row(self, offset: int) -> str:
        """The row at ``offset`` for an error message: its index in the input and its location."""
        return f"row {self.start.row + offset} ({self.location(offset)})"


class TextBatch(Batch):
    """Rows of a text file, with the end of each row.

    :param name: name of the file
    :param ends: for each row, bytes of the file up to its end
    :param lines: for each row, lines of the file up to its end
    :param bad: rows that cannot be used, by offset
    """

    def __init__(
        self,
        rows: Sequence[Row],
        start: Position,
        *,
        name: str,
        ends: Sequence[int],
        lines: Sequence[int],
        bad: dict[int, RowFailure] | None = None,
    ) -> None:
        super().__init__(rows, start, bad=bad)
        self.name = name
        self.ends = ends
        self.lines = lines

    def after(self, count: int) -> Position:
        if not count:
            return self.start
        return Position(self.start.row + count, self.start.file, self.ends[count - 1], self.lines[count - 1])

    def location(self, offset: int) -> str:
        """File and last line of the row."""
        return f"{self.name}, line {self.lines[offset]}"


@dataclass(slots=True)
class SourceRow:
    """One row of an input.

    :param index: number of the row in the whole input, from 0
    :param row: its columns
    :param batch: the batch that it was read with
    :param offset: its number in the batch
    """

    index: int
    row: Row
    batch: Batch
    offset: int

    @property
    def after(self) -> Position:
        """The position after this row."""
        return self.batch.after(self.offset + 1)

    @property
    def location(self) -> str:
        """File and line of the row, for a person."""
        return self.batch.location(self.offset)


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """Consecutive rows that are processed together.

    :param start: position of the first row
    :param after: position after the last row
    :param rows: the rows
    :param bad: rows that cannot be used, by offset
    """

    start: Position
    after: Position
    rows: Sequence[Row]
    bad: Mapping[int, RowFailure] = field(default_factory=dict)

    @property
    def first_row(self) -> int:
        """Index of the first row in the whole input."""
        return self.start.row


FAILED = "error"
"""The column that says why a row failed."""


def kept_batches(batches: Iterable[Batch], start: Position) -> Iterator[Batch]:
    """Leave out the rows that have failed.

    :param batches: rows of one part of an earlier run, with the column `FAILED`
    :param start: the position at which reading starts; rows are counted from there
    """
    row = start.row
    for batch in batches:
        errors = column_of(batch.rows, FAILED)
        kept = [offset for offset, error in enumerate(errors) if error is None]
        if kept:
            # The rows before the first kept one belong to this batch, so that its start is the end of the batch before.
            position = batch.start
            yield KeptBatch(batch, Position(row, position.file, position.offset, position.line), kept)
            row += len(kept)


def limited(batches: Iterable[Batch], limit: int | None) -> Iterator[Batch]:
    """Leave out the rows after a sample of the first ones, as if the input ended there.

    :param batches: the rows from the beginning of an input
    :param limit: number of rows in the sample; ``None`` for all
    """
    if limit is None:
        yield from batches
        return
    left = limit
    for batch in batches:
        if len(batch) >= left:
            batch.rows  # noqa: B018 - completes `Batch.bad`
            yield KeptBatch(batch, batch.start, range(left))
            return
        left -= len(batch)
        yield batch


class KeptBatch(Batch):
    """Some rows of a batch.

    :param inner: the batch
    :param start: position of the first row
    :param kept: which rows of the batch they are
    """

    def __init__(self, inner: Batch, start: Position, kept: Sequence[int]) -> None:
        super().__init__((), start)
        self._inner = inner
        self._kept = kept
        self.bad = {at: inner.bad[offset] for at, offset in enumerate(kept) if offset in inner.bad}

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        rows = self._inner.rows
        return rows if len(self._kept) == len(rows) else [rows[offset] for offset in self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def after(self, count: int) -> Position:
        if not count:
            return self.start
        position = self._inner.after(self._kept[count - 1] + 1)
        return Position(self.start.row + count, position.file, position.offset, position.line)

    def location(self, offset: int) -> str:
        return self._inner.location(self._kept[offset])
