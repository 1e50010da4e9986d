"""Inputs that may give other rows each time they are read: a run reads them once, and keeps their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import msgspec

from airflow_provider_lamini.rows.errors import BadRowError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.sources.jsonl import unusable_row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from airflow_provider_lamini.rows.values import Row

R = TypeVar("R")


class ReadOnceInput(ABC):
    """An input that is read once: a query, or a function."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identifies the input among all that may be kept in one folder: 32 hexadecimal digits."""

    @abstractmethod
    def read_lines(self, *, keep_bad: bool) -> Generator[bytes, None, None]:
        """Read all rows as JSON Lines, in blocks. Memory does not depend on their number.

        :param keep_bad: write an `unusable_row` for a row that cannot be used instead of raising an error
        :raises RowError: if the input or a row cannot be used
        """

    @abstractmethod
    def first_rows(self, maximum: int, *, keep_bad: bool) -> Sequence[object]:
        """The first rows, as a list that `open_source` takes.

        :param maximum: how many rows are needed; there may be a few more
        :param keep_bad: return also rows that cannot be used instead of raising an error
        """

    @abstractmethod
    def __str__(self) -> str:
        """What the rows are, for messages, without any content."""

    def sample(self, count: int | None) -> ReadOnceInput:
        """Return the first rows of this input as an input.

        :param count: how many rows; ``None`` for all
        """
        return self if count is None else FirstRows(self, count)


class FirstRows(ReadOnceInput):
    """A sample of the first rows of an input that is read once: it is read no further.

    :param whole: the input
    :param count: how many rows
    """

    def __init__(self, whole: ReadOnceInput, count: int) -> None:
        self._whole = whole
        self._count = count

    @property
    def fingerprint(self) -> str:
        """Another one than that of the whole input, and of other samples."""
        return digest({"input": self._whole.fingerprint, "limit_rows": self._count})

    def read_lines(self, *, keep_bad: bool) -> Generator[bytes, None, None]:
        left = self._count
        with closing(self._whole.read_lines(keep_bad=keep_bad)) as blocks:
            for block in blocks:
                lines = block.splitlines(keepends=True)[:left]
                yield b"".join(lines)
                left -= len(lines)
                if not left:
                    return

    def first_rows(self, maximum: int, *, keep_bad: bool) -> Sequence[object]:
        return self._whole.first_rows(min(maximum, self._count), keep_bad=keep_bad)[: self._count]

    def __str__(self) -> str:
        return str(self._whole)


def encode_rows(
    records: Iterable[Sequence[R]], row: Callable[[R, int], Row], *, keep_bad: bool
) -> Generator[bytes, None, None]:
    """Encode blocks of records as JSON Lines.

    :param records: the records in blocks
    :param row: makes a row of a record and its number
    :param keep_bad: write an `unusable_row` for a record of which no row can be made instead of raising an error
    :raises BadRowError: for the first record of which no row can be made
    """
    encoder, number = msgspec.json.Encoder(), 0
    for block in records:
        rows: list[Row | str] = []
        for offset, record in enumerate(block):
            try:
                rows.append(row(record, number + offset))
            except BadRowError as error:
                if not keep_bad:
                    raise
                rows.append(unusable_row(error))
        yield encoder.encode_lines(rows)
        number += len(block)
