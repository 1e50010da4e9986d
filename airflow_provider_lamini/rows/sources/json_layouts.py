"""Reads one JSON array of all rows, or objects that span lines, one by one, so that memory does not depend on their number."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from airflow_provider_lamini.rows.batch import MAX_LINE, Batch, Position, TextBatch, bad_row
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.textfile import UTF8_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row

_BLOCK = 64 * 1024
_HEAD = 1024
_BATCH_SIZE = 1024
_BLANKS = re.compile(r"[ \t\r\n]*")
_BRACE_ALONE = re.compile(rb"\{[ \t\r]*\n[ \t\r\n]*[\"}]")
_VALUE = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
"""Finds the end of an element. Its numbers do not count: Python refuses to convert very long ones."""


class Layout(NamedTuple):
    """How the rows of a file are written that has not one of them per line.

    :param remark: what the layout is, for the log
    :param open: what stands before the first row
    :param between: what stands between two rows
    :param end: what stands behind the last row
    :param incomplete: what is missing if the file is cut off
    """

    remark: str
    open: str
    between: str
    end: str
    incomplete: str


_ARRAY = Layout("read as one JSON array", "[", ",", "]", "its array of rows has no end")
_OBJECTS = Layout("read as objects that span lines", "", "", "", "its last object has no end")


def layout_of(stream: BinaryIO) -> Layout | None:
    """The layout of a file of JSON; ``None`` for JSON Lines.

    A line of JSON Lines never begins with ``[``, and is never a ``{`` alone before a key, as pretty-printed objects begin.

    :param stream: the file at its beginning, where it is again afterwards
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    text = head.removeprefix(UTF8_MARK).lstrip(b" \t\r\n")
    if text.startswith(b"["):
        return _ARRAY
    return _OBJECTS if _BRACE_ALONE.match(text) else None


def read_batches(
    stream: BinaryIO,
    layout: Layout,
    name: str,
    start: Position,
    decode: Callable[[bytes, str], Row],
    *,
    keep_bad: bool,
) -> Iterator[Batch]:
    """Read the rows from a position.

    :param stream: the file
    :param layout: its layout
    :param name: its name in messages
    :param start: the position in this file
    :param decode: makes a row of an element; its second argument is the location for messages
    :param keep_bad: keep elements that are not rows (`Batch.bad`) instead of raising an error
    :raises BadRowError: for the first element that is not a row
    :raises InputError: if the array, or the last object, has no end
    """
    window = _Window(stream, name, start, layout.incomplete)
    is_first = not start.offset
    if is_first:
        window.skip(layout.open)
    position = start  # before the bracket, so that reading the first rows again finds it
    done = False
    while not done:
        rows: list[Row] = []
        ends: list[int] = []
        lines: list[int] = []
        bad: dict[int, RowFailure] = {}
        while len(rows) < _BATCH_SIZE:
            if window.peek() == layout.end:
                done = True
                break
            if not is_first:
                window.skip(layout.between)
            is_first = False
            text, line = window.element()
            try:
                rows.append(decode(text, f"{name}, line {line}"))
            except BadRowError as error:
                if not keep_bad:
                    raise
                bad[len(rows)] = bad_row(error)
                rows.append(error.rest)
            ends.append(window.offset)
            lines.append(window.line)
        if rows:
            yield _ElementBatch(rows, position, name=name, ends=ends, lines=lines, bad=bad)
        position = Position(position.row + len(rows), start.file, window.offset, window.line)
    window.skip(layout.end)
    if window.peek():
        raise BadRowError(f"{name}, line {window.line + 1}: something follows the array of all rows.")


class _ElementBatch(TextBatch):
    """Rows of an array, or objects that span lines. The last line of each goes on behind it."""

    def location(self, offset: int) -> str:
        """File and last line of the row."""
        return f"{self.name}, line {self.lines[offset] + 1}"


class _Window:
    """The part of the file that is being parsed.

    :param stream: the file
    :param name: its name in messages
    :param start: the position to start at
    :param incomplete: what is missing if the file is cut off

    :ivar offset: bytes of the file before the current position
    :ivar line: lines of the file before it
    """

    def __init__(self, stream: BinaryIO, name: str, start: Position, incomplete: str) -> None:
        self._stream = stream
        self._name = name
        self._incomplete = incomplete
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False
        self.offset = start.offset
        self.line = start.line
        if start.offset:
            stream.seek(start.offset)
        elif stream.read(len(UTF8_MARK)) == UTF8_MARK:
            self.offset = len(UTF8_MARK)
        else:
            stream.seek(0)

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            self._move(_end_of_blanks(self._text, self._at))
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._fill(_BLOCK)

    def skip(self, character: str) -> None:
        """Skip a character that must come next; nothing if it is empty."""
        if not character:
            return
        found = self.peek()
        if not found:
            raise InputError(f"{self._name} is incomplete: {self._incomplete}.")
        if found != character:
            raise BadRowError(
                f"{self._name}, line {self.line + 1}: not a valid JSON array; {character!r} is missing."
            )
        self._move(self._at + 1)

    def element(self) -> tuple[bytes, int]:
        """The next element as JSON, and the line that it begins in."""
        self.peek()
        while True:
            try:
                _, end = _VALUE.raw_decode(self._text, self._at)
            except RecursionError:
                raise BadRowError(
                    f"{self._name}, line {self.line + 1}: the value is nested too deeply."
                ) from None
            except json.JSONDecodeError as error:
                self._check_rest(error)
                # Twice as much each time: parsing a long element again and again takes no more than twice as long.
                self._fill(max(_BLOCK, len(self._text) - self._at))
                continue
            line, begin = self.line + 1, self._at
            self._move(end)
            return self._text[begin:end].encode(), line

    def _check_rest(self, error: json.JSONDecodeError) -> None:
        """Make sure that an element that cannot be parsed may only be cut off."""
        place = f"{self._name}, line {self.line + 1 + self._text.count(chr(10), self._at, error.pos)}"
        if len(self._text) - self._at > MAX_LINE:
            raise BadRowError(f"{place}: an element is longer than {MAX_LINE >> 20} MiB, or not valid JSON.")
        if not self._ended:
            return
        if error.pos >= len(self._text.rstrip()) or "Unterminated" in error.msg:
            raise InputError(f"{self._name} is incomplete: {self._incomplete}.")
        raise BadRowError(f"{place}: not valid JSON ({error.msg}).")

    def _fill(self, size: int) -> None:
        block = self._stream.read(size)
        self._ended = not block
        try:
            more = self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError:
            raise BadRowError(
                f"{self._name}, after line {self.line}: the text is not valid UTF-8. Convert the file to UTF-8."
            ) from None
        self._text, self._at = self._text[self._at :] + more, 0

    def _move(self, to: int) -> None:
        passed = self._text[self._at : to]
        self.offset += len(passed.encode())
        self.line += passed.count("\n")
        self._at = to


def _end_of_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at
