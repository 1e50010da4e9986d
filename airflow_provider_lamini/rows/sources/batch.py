"""Rows on their way in: a batch of them, one of them, and the place to go on from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import column_of, kinds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.rows.values import Row


_ENCODER = msgspec.json.Encoder()

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line, or CSV field, that is read."""


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place between two rows of an input, where reading can go on without rereading what is before.

    :param row: rows of the whole input before this place
    :param file: number of the file, in the source's order
    :param at: bytes of that file before this place (of its uncompressed text); row groups, for Parquet
    :param line: lines of that file before this place; rows of the row group, for Parquet
    """

    row: int = 0
    file: int = 0
    at: int = 0
    line: int = 0


class Batch(ABC):
    """Some consecutive rows of one file, as many as are convenient to decode at once.

    :param rows: the rows
    :param start: the place before the first of them
    :param raw: the bytes that the rows were read from, where the whole file is made of such bytes
    :param checked: whether the reader made sure that each required column has a value in each row
    """

    def __init__(
        self, rows: Sequence[Row], start: Cursor, *, raw: bytes | None = None, checked: bool = False
    ) -> None:
        self._rows = rows
        self.start = start
        self.raw = raw
        self.checked = checked

    @property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        return self._rows

    def __len__(self) -> int:
        return len(self.rows)

    def check(self) -> None:  # noqa: B027 - nothing is to be done by most
        """Make sure that each value can be said in JSON, where that shows only when `rows` are asked for.

        :raises BadRowError: for a value that cannot
        """

    def content(self) -> bytes | memoryview:
        """Bytes that are others where the rows are others."""
        return _ENCODER.encode_lines(self.rows) if self.raw is None else self.raw

    def lacking(self, column: str) -> int | None:
        """The first row without a value in a column, by its number in the batch; ``None`` where there is none such."""
        values = column_of(self.rows, column)
        return values.index(None) if None in values else None

    def has(self, column: str) -> bool:
        """Whether any of the rows has a column, be it without a value."""
        return any(column in row for row in self.rows)

    def kinds(self, column: str) -> set[type]:
        """What is in a column, see `columns.kinds_of`."""
        return kinds_of(column_of(self.rows, column))

    @abstractmethod
    def after(self, count: int) -> Cursor:
        """The place after the first ``count`` rows of the batch."""

    @abstractmethod
    def place(self, offset: int) -> str:
        """Where the row at ``offset`` lies, for a person: file and line."""

    def where(self, offset: int) -> str:
        """The row at ``offset`` for an error message: its index in the input and its place."""
        return f"row {self.start.row + offset} ({self.place(offset)})"


class TextBatch(Batch):
    """Rows of a text file, with the end of each of them.

    :param name: the file's name
    :param ends: bytes of the file up to the end of each row
    :param lines: lines of the file up to the end of each row
    """

    def __init__(
        self, rows: Sequence[Row], start: Cursor, *, name: str, ends: Sequence[int], lines: Sequence[int]
    ) -> None:
        super().__init__(rows, start)
        self.name = name
        self.ends = ends
        self.lines = lines

    def after(self, count: int) -> Cursor:
        """See `Batch.after`."""
        if not count:
            return self.start
        return Cursor(self.start.row + count, self.start.file, self.ends[count - 1], self.lines[count - 1])

    def place(self, offset: int) -> str:
        """See `Batch.place`. The line is the last one of the row."""
        return f"{self.name}, line {self.lines[offset]}"


@dataclass(slots=True)
class SourceRow:
    """One row of an input.

    :param index: number of the row in the whole input, from 0
    :param row: its columns
    :param batch: the batch that it came in
    :param offset: its number in the batch
    """

    index: int
    row: Row
    batch: Batch
    offset: int

    @property
    def after(self) -> Cursor:
        """The place after this row."""
        return self.batch.after(self.offset + 1)

    @property
    def place(self) -> str:
        """Where the row lies, for a person."""
        return self.batch.place(self.offset)


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """Consecutive rows that are worked on together.

    :param start: the place before the first row
    :param after: the place after the last row
    :param rows: the rows
    """

    start: Cursor
    after: Cursor
    rows: Sequence[Row]

    @property
    def first_row(self) -> int:
        """Index of the first row in the whole input."""
        return self.start.row
