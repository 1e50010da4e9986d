"""Reads CSV and TSV. Values stay text, except those that stand for a missing value."""

from __future__ import annotations

import csv
import io
import re
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_lamini.rows.batch import MAX_LINE, Batch, Position, TextBatch, bad_row
from airflow_provider_lamini.rows.errors import BadRowError, ColumnError, InputError
from airflow_provider_lamini.rows.sources.csv_dialect import (
    NULL,
    STATED_DELIMITER,
    CsvDialect,
    dialect_of,
    is_empty,
)
from airflow_provider_lamini.rows.sources.projection import Projection, project_declared
from airflow_provider_lamini.rows.sources.textfile import UTF8_MARK, InputFile, LineReader
from airflow_provider_lamini.rows.values import split_usable
from airflow_provider_lamini.wording import counted, short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row

_BATCH_SIZE = 1024
_SAMPLE = 64 * 1024
_MAX_RECORD = 2 * MAX_LINE
"""Bytes of a record of several lines that may be in memory. One that is longer is a bad row."""
_TOO_LONG = f"a value is longer than {MAX_LINE >> 20} MiB. Is a closing quotation mark missing?"
_MARK = "\ufeff"
_JSON_ROWS = ('{"', '[{"')
_RULER = frozenset("-: \t\r\n")
"""What a line below the header consists of that only underlines it, besides delimiters."""
_ROW_COUNT = re.compile(r"\(\d+ rows?(?: affected)?\)")
"""The last line of a query's result, as psql and sqlcmd write it."""
_VALUE = re.compile(r"[+-]?\d[\d.,:/T -]*Z?")
"""A number, a date or a time."""
_MAX_PENDING = 100_000
"""Lines without any value that are kept in memory until a row follows or the file ends; more of them are rows."""
_DELIMITERS = {"tsv": "\t"}
"""The delimiter that the format of a file says."""


class _LineFeed:
    """Passes lines to the CSV parser one at a time and keeps track of the position."""

    def __init__(
        self, reader: LineReader, name: str, dialect: CsvDialect, *, encoding: str, keep_bad: bool
    ) -> None:
        self._encoding = encoding
        self._dialect = dialect
        self._has_escapes = dialect.escape is not None
        self._reader = reader
        self._name = name
        self._keep_bad = keep_bad
        self.invalid: str | None = None
        """What is wrong with a line since this was last reset. Only set if bad rows are kept."""
        self.shortened = False
        """Whether values of a line since then are lost."""
        self.start = self.first = 0
        """Where the current record begins: bytes before it, and the number of its first line. The caller updates both."""
        self._blocks = reader.blocks()
        self._block: list[bytes] = []
        self._next = self._dropped = 0
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
            self._dropped = self._reader.dropped
            self.offset = self._reader.offset
        return True

    @property
    def is_shrunk(self) -> bool:
        """Whether the next line is what is left of one that is too long."""
        return self._dropped > 0

    def _shorten(self, line: bytes) -> bytes:
        """What the parser gets instead of a line that is too long, or belongs to a record that is.

        :raises BadRowError: if bad rows are not kept
        """
        self.shortened = True
        if self._dropped:
            self.offset += self._dropped - len(line)
            self._reader.lines = self.line - 1
            self.invalid = str(self._reader.too_long())
            return line
        self.invalid = f"{self._name}, line {self.first}: {_TOO_LONG}"
        if not (self._keep_bad and self._dialect.can_shrink):
            raise BadRowError(self.invalid)
        return self._dialect.shrink(line)

    def skip_ruler(self) -> bool:
        """Skip the next line if it only underlines the header, as in results of sqlcmd and tables of Markdown."""
        line = self._block[self._next].decode(errors="replace") if self.fill() else ""
        delimiter = self._dialect.delimiter
        if not ("--" in line and delimiter in line and _RULER.issuperset(line.replace(delimiter, ""))):
            return False
        next(self)
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
        if self._dropped or self.offset - self.start > _MAX_RECORD:
            line = self._shorten(line)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            wrong = (
                f"{self._name}, line {self.line}: the line is not valid {self._encoding.upper()}. Pass its encoding, such "
                "as csv_options={'encoding': 'cp1252'}, or convert the file."
            )
            if not self._keep_bad:
                raise BadRowError(wrong) from None
            self.invalid = wrong
            text = line.decode(errors="surrogateescape")  # such values cannot be used, the others can
        return self._dialect.protect_nulls(text) if self._has_escapes else text


class DelimitedReader:
    """Reads one file.

    :param file: the file
    """

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._keep_bad = file.keep_bad
        self._nulls = frozenset(file.csv.null_values)
        self._null_bytes = tuple(value.encode() for value in file.csv.null_values)
        self._repeated: list[list[str]] = []
        self._special_lines: set[bytes] = set()
        self._named_again = False
        # The default limit of the csv module is too small for a field with a long document. It is set per process.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * _MAX_RECORD))

    def read_batches(
        self, start: Position, columns: Collection[str] | None, required: Collection[str] = ()
    ) -> Iterator[Batch]:
        """Read from a position.

        :param start: the position in this file
        :param columns: the columns to keep; ``None`` for all
        :param required: columns without which the file cannot be used
        :raises BadRowError: for the first line that is not a row
        :raises ColumnError: if the header cannot be used, or lacks a required column
        :raises InputError: if the file is not valid text
        """
        with self._file.open_text() as stream:
            self._dialect = self._find_dialect(stream)
            if self._dialect.escape is not None:
                self._nulls |= {NULL}
            feed = self._feed(stream)
            header = self._header(feed)
            if len(header) > 1:
                self._expect_line([""] * len(header))  # as spreadsheets write below the last row
            shape = _Shape(header, self._project(header, columns, required), self._file.name)
            named_here = self._file.csv.header is None or self._named_again
            if named_here and feed.skip_ruler():
                self._file.remark("skipped the line that underlines the header")
            if self._file.csv.header is not None and not self._named_again and not start.offset:
                stream.seek(0)
                feed = self._feed(stream)
                if self._first_line and feed.fill():
                    next(feed)
            if start.offset:
                stream.seek(0)
                feed = self._feed(stream, start)
            row = start.row
            while feed.fill():
                place = Position(row, start.file, feed.offset, feed.line)
                batch = self._plain(feed, shape, place) or self._quoted(feed, shape, place)
                row += len(batch.rows)
                yield shape.projection.apply(batch)

    def _find_dialect(self, stream: BinaryIO) -> CsvDialect:
        sample = stream.read(_SAMPLE)
        stream.seek(0)
        complete = sample if len(sample) < _SAMPLE else sample[: sample.rfind(b"\n") + 1]
        text = complete.removeprefix(UTF8_MARK).decode(errors="replace")
        self._first_line = STATED_DELIMITER.match(text) is not None
        dialect, remarks = dialect_of(text, self._file.csv, _DELIMITERS.get(self._file.format))
        for remark in remarks:
            self._file.remark(remark)
        return dialect

    def _feed(self, stream: BinaryIO, start: Position | None = None) -> _LineFeed:
        place = start or Position()
        reader = LineReader(
            self._file,
            stream,
            place.offset,
            place.line,
            drop_long=self._keep_bad and self._dialect.can_shrink,
            shrink=self._dialect.shrink,
        )
        return _LineFeed(
            reader, self._file.name, self._dialect, encoding=self._file.encoding, keep_bad=self._keep_bad
        )

    def _header(self, feed: _LineFeed) -> list[str]:
        """The names of the columns; a column without a name has an empty one."""
        name, given = self._file.name, self._file.csv.header
        if self._first_line and feed.fill():
            next(feed)
        try:
            header = next((record for record in self._dialect.records(feed) if record), None)
        except csv.Error as error:
            raise InputError(f"{name}, the header line: {_reason(error)}") from None
        if feed.invalid:
            raise InputError(feed.invalid)
        if given is not None:
            named = None if header is None else [value.strip() for value in header]
            self._named_again = len(given) > 1 and named == list(given)  # a single word may be a row
            if self._named_again:
                self._file.remark("skipped the header line, as csv_options names the same columns")
            return [*given, *[""] * (len(header or given) - len(given))]
        if header is None:
            raise InputError(f"{name} is empty: a header line with the names of the columns is expected.")
        if is_empty(header):
            raise ColumnError(
                f"{name}: no column of the header has a name. If there is no header, name the columns in csv_options['header']."
            )
        header[0] = header[0].lstrip(_MARK)
        if header[0].lstrip().startswith(_JSON_ROWS):
            # The line is a row, so the message does not repeat it as the names of columns.
            raise InputError(f"{name} begins with a row of JSON. Rename it, or pass input_format='jsonl'.")
        self._expect_again(header)
        names = [column.strip() for column in header]
        self._check_is_header(names)
        return names

    def _check_is_header(self, names: Sequence[str]) -> None:
        """Make sure that the first line is not a row: a table that was split by lines has a header only in its first part.

        :raises InputError: if it has other names than the header of the first file, and values where that one has names
        """
        first = self._file.headers
        if not first:
            first.append(names)
        if len(names) == len(first[0]) and set(names).isdisjoint(first[0]):
            both = zip(names, first[0], strict=True)
            if any(_VALUE.fullmatch(here) and not _VALUE.fullmatch(there) for here, there in both):
                raise InputError(
                    f"{self._file.name} has no header line, or is another table: its first line has numbers or dates where "
                    "that of the first file has names. For parts of one table, pass csv_options={'header': [...]} with the "
                    "names of its columns; give other tables to a task of their own."
                )

    def _expect_again(self, header: Sequence[str]) -> None:
        """Note how the header looks where files were joined: it is not a row there. A single word without a mark may be one."""
        first = (f"{_MARK}{header[0]}", f'{_MARK}"{header[0]}"', header[0])
        self._repeated = [[name, *header[1:]] for name in (first if len(header) > 1 else first[:2])]
        for record in self._repeated:
            self._expect_line(record)

    def _expect_line(self, record: Sequence[str]) -> None:
        """Note how a record looks that may not be a row: `_plain` leaves it to `_quoted`."""
        line = self._dialect.delimiter.join(record)
        self._special_lines |= {f"{line}\n".encode(), f"{line}\r\n".encode()}

    def _project(
        self, header: Sequence[str], columns: Collection[str] | None, required: Collection[str]
    ) -> Projection:
        name = self._file.name
        twice = next((column for column in columns or () if header.count(column) > 1), None)
        if twice is not None:
            raise ColumnError(
                f"{name}: the header names column {short_name(twice)!r} more than once. Rename one of them, or leave it out."
            )
        declared = [column for column in header if column and header.count(column) == 1]
        return project_declared(
            columns, declared, partitions=self._file.partitions, required=required, name=name
        )

    def _plain(self, feed: _LineFeed, shape: _Shape, place: Position) -> Batch | None:
        """Parse all available lines at once; ``None`` unless each line is one record without quotes."""
        if feed.is_shrunk:
            return None
        lines = feed.take_block()
        block = b"".join(lines)
        special = any(character in block for character in self._dialect.special)
        special = special or not self._special_lines.isdisjoint(lines)
        try:
            # Not str.splitlines(), which also splits at a dozen other characters.
            text = None if special else io.StringIO(block.decode(), newline="\n")
            records = None if text is None else list(self._dialect.records(text))
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
        nulls = self._nulls if any(value in block for value in self._null_bytes) else None
        return TextBatch(shape.rows(records, nulls), place, name=self._file.name, ends=ends, lines=numbers)

    def _quoted(self, feed: _LineFeed, shape: _Shape, place: Position) -> Batch:
        records: list[list[Any]] = []
        ends: list[int] = []
        numbers: list[int] = []
        bad: dict[int, RowFailure] = {}
        pending: list[tuple[list[Any], int, int]] = []  # records without any value, unless a row follows
        reader = self._dialect.records(feed)
        while len(records) < _BATCH_SIZE:
            first = feed.first = feed.line + 1
            feed.start = feed.offset
            record, failure = self._record_or_bad(reader, feed, shape.width, first)
            if failure is not None:
                bad[len(records) + len(pending)] = failure
                reader = self._dialect.records(feed)  # reading goes on with the next line
            if record is None:
                break
            if not record:
                continue
            if record in self._repeated:
                self._file.remark("skipped header lines among the rows")
                continue
            may_be_last = shape.width > 1 and not any(record) and failure is None
            pending.append((record, feed.offset, feed.line))
            if may_be_last and len(pending) < _MAX_PENDING:
                continue
            for each, end, number in pending:
                records.append(each)
                ends.append(end)
                numbers.append(number)
            pending.clear()
        if pending:
            self._file.remark("skipped lines without any value at the end")
        rows = shape.rows(records, self._nulls)
        for offset in bad:
            rows[offset] = split_usable(rows[offset])[0]
        return TextBatch(rows, place, name=self._file.name, ends=ends, lines=numbers, bad=bad)

    def _record_or_bad(
        self, reader: Iterator[list[str]], feed: _LineFeed, width: int, first: int
    ) -> tuple[list[Any] | None, RowFailure | None]:
        """Read one record (`_record`), or what is known of a bad one, and why it is bad.

        :raises BadRowError: if it is not a row, and bad rows are not kept or its end is not known
        """
        try:
            return self._record(reader, feed, width, first), None
        except BadRowError as error:
            values = error.values if isinstance(error, _CompleteRecordError) else None
            is_over = feed.line == first or values is not None  # otherwise it had begun on an earlier line
            if not self._keep_bad or not is_over or _is_open(error):
                raise
            return values or [None] * width, bad_row(error)

    def _record(
        self, reader: Iterator[list[str]], feed: _LineFeed, width: int, first: int
    ) -> list[Any] | None:
        """Read one record, with as many values as the header; ``None`` at the end of the file, empty for an empty line.

        Values that are missing at its end are null.

        :raises BadRowError: if it is not a row
        """
        feed.invalid, feed.shortened = None, False
        try:
            record: list[Any] | None = next(reader, None)
        except csv.Error as error:
            raise BadRowError(f"{self._file.name}, line {first}: {_reason(error)}") from error
        if feed.offset - feed.start > MAX_LINE and record and any(len(value) > MAX_LINE for value in record):
            feed.invalid = feed.invalid or f"{self._file.name}, line {first}: {_TOO_LONG}"
        if feed.invalid and record is not None and len(record) == width:
            raise _CompleteRecordError(
                feed.invalid, [None if feed.shortened or len(value) > MAX_LINE else value for value in record]
            )
        if feed.invalid:
            raise BadRowError(feed.invalid)
        if not record or len(record) == width:
            return record
        if len(record) == 1 and _ROW_COUNT.fullmatch(record[0].strip()):
            self._file.remark("skipped the number of rows that a database client has added")
            return []
        if len(record) < width:
            self._file.remark("short rows filled with null")
            return record + [None] * (width - len(record))
        if is_empty(record[width:]):
            return record[:width]
        raise BadRowError(
            f"{self._file.name}, line {first}: {counted(len(record), 'value')}, but the header names "
            f"{counted(width, 'column')}. Is a quotation mark missing, or is the delimiter another one? See csv_options."
        )


class _CompleteRecordError(BadRowError):
    """A record cannot be used, but has as many values as the header, so that it ends where it seems to.

    :param message: what is wrong with it
    :param values: its values; null for those that are too long or lost
    """

    def __init__(self, message: str, values: list[str | None]) -> None:
        super().__init__(message)
        self.values = values


def _is_open(error: BadRowError) -> bool:
    """Whether a value that is never closed has swallowed the rest of the file."""
    return isinstance(error.__cause__, csv.Error) and any(
        text in str(error.__cause__) for text in ("end of data", "field larger")
    )


class _Shape:
    """Converts records to rows of the selected columns.

    :param header: the names of all columns
    :param projection: the columns to read
    :param name: name of the file, for messages
    """

    def __init__(self, header: Sequence[str], projection: Projection, name: str) -> None:
        self.width = len(header)
        self.projection = projection
        self._name = name
        if projection.names is None:
            names = [column for column in header if column and header.count(column) == 1]
        else:
            names = [column for column in header if column in projection.names]
        self._names = names
        self._all = names == list(header)
        self._pick: itemgetter[Any] | None = itemgetter(*map(header.index, names)) if names else None

    def rows(self, records: list[list[Any]], nulls: Collection[str] | None) -> list[Row]:
        """Make rows of records.

        :param records: the records
        :param nulls: texts that stand for a missing value; ``None`` if there are none
        """
        if not self._names or self._pick is None:
            return [{} for _ in records]
        if nulls:
            records = [[None if value in nulls else value for value in record] for record in records]
        if self._all:
            return list(map(dict, map(zip, repeat(self._names), records)))
        picked = map(self._pick, records)
        if len(self._names) == 1:
            return [{self._names[0]: value} for value in picked]
        return list(map(dict, map(zip, repeat(self._names), picked)))


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return _TOO_LONG
    if "end of data" in text:
        return "a quotation mark is opened here and never closed. If it is part of the text, set csv_options={'quote': None}."
    if "new-line character" in text:
        return "a carriage return stands outside of quotation marks. End lines with LF or CRLF."
    return f"not valid CSV ({text}). See csv_options, if values are quoted or escaped in another way."
