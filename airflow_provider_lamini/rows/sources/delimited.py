"""Reads CSV and TSV with a header line. Values stay text."""

from __future__ import annotations

import csv
import io
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.rows.errors import (
    BadRowError,
    ColumnError,
    InputError,
    MissingColumnError,
    short_name,
)
from airflow_provider_lamini.rows.sources.batch import MAX_LINE, Batch, Cursor, TextBatch, bad_row
from airflow_provider_lamini.rows.sources.textfile import InputFile, LineReader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row

_BATCH_SIZE = 1024
_QUOTE = b'"'


class _LineFeed:
    """Passes lines to the CSV parser one at a time and keeps track of the position."""

    def __init__(self, reader: LineReader, name: str, *, keep_bad: bool) -> None:
        self._reader = reader
        self._name = name
        self._keep_bad = keep_bad
        self.invalid: str | None = None
        """What is wrong with a line since this was last reset. Only set if bad rows are kept."""
        self._blocks = reader.blocks()
        self._block: list[bytes] = []
        self._next = 0
        self.offset = 0
        self.line = reader.lines

    def fill(self) -> bool:
        """Make sure that the next line is available. Returns false at the end of the file."""
        if self._next == len(self._block):
            self._reader.lines = self.line
            block = next(self._blocks, None)
            if block is None:
                return False
            # Not bytes.splitlines(), which also splits at a single carriage return: a quoted value may contain one.
            self._block = [line + b"\n" for line in block.split(b"\n")[:-1]]
            self._next = 0
            self.offset = self._reader.offset
        return True

    def take_block(self) -> list[bytes]:
        """Return all available lines. `offset` and `line` stay at the start of the first one; the caller updates them."""
        taken = self._block[self._next :]
        self._next = len(self._block)
        return taken

    def put_back(self, lines: list[bytes]) -> None:
        """Undo `take_block`."""
        self._block, self._next = lines, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.fill():
            raise StopIteration
        line = self._block[self._next]
        self._next += 1
        self.offset += len(line)
        self.line += 1
        try:
            return line.decode()
        except UnicodeDecodeError:
            wrong = f"{self._name}, line {self.line}: the line is not valid UTF-8. Convert the file to UTF-8."
            if not self._keep_bad:
                raise BadRowError(wrong) from None
            self.invalid = wrong
            return line.decode(errors="replace")


class DelimitedReader:
    """Reads one file.

    :param file: the file
    :param delimiter: the character between two values
    :param keep_bad: keep records that are not rows (`Batch.bad`) instead of raising an error
    """

    def __init__(self, file: InputFile, delimiter: str, *, keep_bad: bool = False) -> None:
        self._file = file
        self._delimiter = delimiter
        self._keep_bad = keep_bad
        # The default limit of the csv module is too small for a field with a long document. It is set per process.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))

    def read_batches(self, start: Cursor, columns: Collection[str] | None) -> Iterator[Batch]:
        """Read from a position.

        :param start: the position in this file
        :param columns: the columns to keep; ``None`` for all
        :raises BadRowError: for the first line that is not a row
        :raises ColumnError: if the header cannot be used, or lacks a column
        :raises InputError: if the file is not valid text
        """
        with self._file.open() as stream:
            feed = self._feed(LineReader(self._file, stream))
            header = self._header(feed)
            shape = _Shape(header, columns, self._file.name)
            if start.offset:
                stream.seek(0)
                feed = self._feed(LineReader(self._file, stream, start.offset, start.line))
            row = start.row
            while feed.fill():
                place = Cursor(row, start.file, feed.offset, feed.line)
                batch = self._plain(feed, shape, place) or self._quoted(feed, shape, place)
                row += len(batch.rows)
                yield batch

    def _feed(self, reader: LineReader) -> _LineFeed:
        return _LineFeed(reader, self._file.name, keep_bad=self._keep_bad)

    def _header(self, feed: _LineFeed) -> list[str]:
        name = self._file.name
        try:
            header = next((record for record in self._records(feed) if record), None)
        except csv.Error as error:
            raise InputError(f"{name}, the header line: {_reason(error)}") from None
        if feed.invalid:
            raise InputError(feed.invalid)
        if header is None:
            raise InputError(f"{name} is empty: a header line with the names of the columns is expected.")
        header = [column.strip() for column in header]
        if not all(header):
            raise ColumnError(f"{name}: column {header.index('') + 1} of the header has no name.")
        twice = next((column for column in header if header.count(column) > 1), None)
        if twice is not None:
            raise ColumnError(f"{name}: the header names column {short_name(twice)!r} more than once.")
        return header

    def _records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return iter(csv.reader(lines, delimiter=self._delimiter, strict=True))

    def _plain(self, feed: _LineFeed, shape: _Shape, place: Cursor) -> Batch | None:
        """Parse all available lines at once; ``None`` unless each line is one record without quotes."""
        lines = feed.take_block()
        block = b"".join(lines)
        try:
            # Not str.splitlines(), which also splits at a dozen other characters.
            text = None if _QUOTE in block else io.StringIO(block.decode(), newline="\n")
            records = None if text is None else list(self._records(text))
        except (csv.Error, UnicodeDecodeError):
            records = None
        if records is None or len(records) != len(lines) or set(map(len, records)) != {shape.width}:
            feed.put_back(lines)
            return None
        ends: list[int] = []
        for line in lines:
            feed.offset += len(line)
            ends.append(feed.offset)
        numbers = range(feed.line + 1, feed.line + len(lines) + 1)
        feed.line += len(lines)
        return TextBatch(shape.rows(records), place, name=self._file.name, ends=ends, lines=numbers)

    def _quoted(self, feed: _LineFeed, shape: _Shape, place: Cursor) -> Batch:
        records: list[list[str]] = []
        ends: list[int] = []
        numbers: list[int] = []
        bad: dict[int, RowFailure] = {}
        reader = self._records(feed)
        while len(records) < _BATCH_SIZE:
            first = feed.line + 1
            try:
                record = self._record(reader, feed, shape.width, first)
            except BadRowError as error:
                # Reading goes on with the next line. If the record had begun on an earlier one, its end is not known.
                if not self._keep_bad or feed.line > first or _is_open(error):
                    raise
                bad[len(records)], record = bad_row(error), [""] * shape.width
                reader = self._records(feed)
            if record is None:
                break
            if not record:
                continue
            records.append(record)
            ends.append(feed.offset)
            numbers.append(feed.line)
        rows = shape.rows(records)
        for offset in bad:
            rows[offset] = {}
        return TextBatch(rows, place, name=self._file.name, ends=ends, lines=numbers, bad=bad)

    def _record(
        self, reader: Iterator[list[str]], feed: _LineFeed, width: int, first: int
    ) -> list[str] | None:
        """Read one record; ``None`` at the end of the file, empty for an empty line.

        :raises BadRowError: if it is not a row
        """
        feed.invalid = None
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise BadRowError(f"{self._file.name}, line {first}: {_reason(error)}") from error
        if feed.invalid:
            raise BadRowError(feed.invalid)
        if record and len(record) != width:
            raise BadRowError(
                f"{self._file.name}, line {first}: {len(record)} values, but the header names {width} columns. Is a "
                "quotation mark missing, or is the delimiter another one?"
            )
        return record


def _is_open(error: BadRowError) -> bool:
    """Whether a value that is never closed has swallowed the rest of the file."""
    return isinstance(error.__cause__, csv.Error) and any(
        text in str(error.__cause__) for text in ("end of data", "field larger")
    )


class _Shape:
    """Converts records to rows of the selected columns."""

    def __init__(self, header: Sequence[str], columns: Collection[str] | None, name: str) -> None:
        self.width = len(header)
        self._names = list(header)
        self._pick: itemgetter[Any] | None = None
        if columns is None:
            return
        missing = [column for column in columns if column not in header]
        if missing:
            raise MissingColumnError.of(name, missing[0], header)
        self._names = [column for column in header if column in columns]
        self._pick = itemgetter(*map(header.index, self._names)) if self._names else None

    def rows(self, records: list[list[str]]) -> list[Row]:
        if not self._names:
            return [{} for _ in records]
        if self._pick is None:
            return list(map(dict, map(zip, repeat(self._names), records)))
        picked = map(self._pick, records)
        if len(self._names) == 1:
            return [{self._names[0]: value} for value in picked]
        return list(map(dict, map(zip, repeat(self._names), picked)))


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a value is longer than {MAX_LINE >> 20} MiB. Is a closing quotation mark missing?"
    if "end of data" in text:
        return "a quotation mark is opened here and never closed."
    if "new-line character" in text:
        return "a carriage return stands outside of quotation marks. End lines with LF or CRLF."
    return f"not valid CSV ({text})."
