"""Reads JSON Lines: one object, or one text, per line. One array of all rows, and objects that span lines, are read as well.

If a key occurs twice in an object, the last value counts, as usual in JSON parsers.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from airflow_provider_lamini.rows.batch import Batch, Position, TextBatch, bad_row
from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources import json_layouts
from airflow_provider_lamini.rows.sources.projection import field_values
from airflow_provider_lamini.rows.sources.records import ROW_AS_TEXT, is_row_as_text
from airflow_provider_lamini.rows.sources.textfile import UTF8_MARK, InputFile, LineReader
from airflow_provider_lamini.rows.values import split_usable
from airflow_provider_lamini.wording import counted, short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row

_ODD_LF = re.compile(rb"\n(?:(?<!\}\n)|[^{])")
_ODD_CRLF = re.compile(rb"\n(?:(?<!\}\r\n)|[^{])")
"""Matches a line end that is not between two objects or at the end of the block."""

_UNUSABLE = "\0unusable row\0"
_UNUSABLE_VALUE = "\ud800\0unusable value\0"
"""Begins with half of a surrogate pair, so that the fast decoder leaves it alone where it is not wanted, and else refuses it."""
_NOT_UTF8 = "the line is not valid UTF-8. Convert the file to UTF-8."
_Value = str | int | float | bool | list[Any] | dict[str, Any]
_HINTS = {
    ord("["): "It starts with '[': JSON Lines has one object per line, not an array of all rows.",
    ord("{"): "Each line must be one complete JSON object.",
}


class _LineDecoder:
    """Decodes the object of a line. Invalid JSON in a column or field that nobody asks for, such as NaN, does not matter.

    :param columns: the columns to keep; ``None`` for all
    :param wanted: the columns and fields of columns (``user.name``) that are needed; ``None`` for all that can be used
    """

    def __init__(self, columns: tuple[str, ...] | None, wanted: Collection[str] | None) -> None:
        self._decode = _decoder(columns, ()).decode
        self._wanted = wanted

    def __call__(self, line: bytes, place: str) -> Row:
        """Decode a line.

        :param place: file and line, for the error
        :raises msgspec.MsgspecError: if it is not valid JSON
        :raises UnicodeDecodeError: if it is neither that nor valid UTF-8
        :raises BadRowError: if a value that is needed is none of JSON; the message names the column
        """
        try:
            return self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _python_object(line)
            if found is None or (self._wanted is None and not _is_utf8(line)):
                raise
        if self._wanted is None:
            return split_usable(found, lambda *_: None)[0]
        row: Row = {}
        problems: list[str] = []
        for column in self._wanted:
            part, wrong = _usable_part(found, column, place)
            row |= part
            problems += wrong
        if problems:
            raise BadRowError(problems[0] if _is_utf8(line) else f"{place}: {_NOT_UTF8}", rest=row)
        return row


def _usable_part(found: Row, column: str, place: str) -> tuple[Row, list[str]]:
    """What can be used of a column, or a field of one, and what is wrong with the rest."""
    values = field_values(found, column)
    # A text on the way to a field ends it: one that was noted stands for the object that has the field.
    noted = list(_noted_problems(next((value for value in values if isinstance(value, str)), values[-1])))
    if values[-1] is None and column not in found:
        return {}, noted
    part, wrong = split_usable({column: values[-1]})
    return part, noted or [f"{place}: column {short_name(name)!r} {text}." for name, text in wrong.items()]


def _noted_problems(value: Json) -> Iterator[str]:
    """What is wrong with values that could not be written as JSON (`unusable_value`): a value, or those below it."""
    if isinstance(value, str) and value.startswith(_UNUSABLE_VALUE):
        yield value.removeprefix(_UNUSABLE_VALUE)
    elif isinstance(value, dict):
        yield from chain.from_iterable(map(_noted_problems, value.values()))


def _python_object(line: bytes) -> dict[str, Any] | None:
    """The object of a line as Python's parser reads it, which takes NaN and halves of surrogate pairs.

    Bytes that are not UTF-8 become such halves.
    """
    try:
        found = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class _LineBatch(Batch):
    """Rows of a block with one row per line. Their ends are computed on demand."""

    def __init__(self, rows: list[Row], start: Position, *, block: bytes, name: str, checked: bool) -> None:
        super().__init__(rows, start, checked=checked)
        self._block = block
        self._name = name
        self._last_end = (0, 0)

    def after(self, count: int) -> Position:
        rows, end = self._last_end if count >= self._last_end[0] else (0, 0)
        if count == len(self.rows):
            end = len(self._block)
        elif count > rows:
            end = len(self._block) - len(self._block[end:].split(b"\n", count - rows)[-1])
            self._last_end = (count, end)
        start = self.start
        return Position(start.row + count, start.file, start.offset + end, start.line + count)

    def location(self, offset: int) -> str:
        return f"{self._name}, line {self.start.line + offset + 1}"


def read_batches(
    file: InputFile,
    start: Position,
    columns: Collection[str] | None,
    required: Collection[str],
    *,
    keep_bad: bool = False,
    wanted: Collection[str] | None = None,
) -> Iterator[Batch]:
    """Read a file from a position.

    :param file: the file
    :param start: the position in this file
    :param columns: the columns to keep; ``None`` for all
    :param required: columns that the reader can check for missing values (`Batch.checked`)
    :param keep_bad: keep lines that are not rows (`Batch.bad`) instead of raising an error
    :param wanted: the columns and fields of columns that are needed, of which ``columns`` has the columns; ``None`` for all
    :raises BadRowError: for the first line that is not a row
    :raises InputError: if the file is not valid text, or has the columns of a table and not its rows
    """
    batches = _read_batches(file, start, columns, required, keep_bad=keep_bad, wanted=wanted)
    first = next(batches, None)
    if first is None:
        return
    if not start.offset and len(first) == 1 and _has_numbered_values(first.rows[0]):
        second = next(filter(len, batches), None)
        if second is None:
            raise InputError(
                f"{file.name} has one object with the columns of a table, as to_json() of pandas writes it. Write its rows, "
                "with orient='records' and lines=True."
            )
        batches = chain([second], batches)
    yield first
    yield from batches


def _has_numbered_values(row: Row) -> bool:
    """Whether each value of a row is an object with the keys 0, 1, ..., as pandas writes the columns of a table."""
    return bool(row) and all(
        isinstance(value, dict) and value and list(value) == list(map(str, range(len(value))))
        for value in row.values()
    )


def _read_batches(
    file: InputFile,
    start: Position,
    columns: Collection[str] | None,
    required: Collection[str],
    *,
    keep_bad: bool,
    wanted: Collection[str] | None,
) -> Iterator[Batch]:
    names = None if columns is None else tuple(columns)
    decoder, slow = _decoder(names, tuple(required)), _LineDecoder(names, wanted)
    checked = columns is not None and bool(required)
    with file.open_text() as stream:
        if layout := json_layouts.layout_of(stream):
            file.remark(layout.remark)
            decode = partial(_read_line, slow)
            yield from json_layouts.read_batches(stream, layout, file.name, start, decode, keep_bad=keep_bad)
            return
        reader = LineReader(file, stream, start.offset, start.line, drop_long=keep_bad)
        row = start.row
        for block in reader.blocks():
            place = Position(row, start.file, reader.offset, reader.lines)
            if (dropped := reader.dropped_line(place)) is not None:
                row, reader.lines = row + 1, reader.lines + 1
                yield dropped
                continue
            rows = _one_per_line(decoder, block)
            batch = (
                _read_lines(slow, block, place, file.name, keep_bad=keep_bad)
                if rows is None
                else _LineBatch(rows, place, block=block, name=file.name, checked=checked)
            )
            row += len(batch)
            reader.lines += block.count(b"\n") if rows is None else len(rows)
            yield batch


@lru_cache(16)
def _decoder(columns: tuple[str, ...] | None, required: tuple[str, ...]) -> msgspec.json.Decoder[Row]:
    """The decoder for rows. Creating one takes as long as decoding a thousand rows, so it is cached."""
    if columns is None:
        return msgspec.json.Decoder(dict[str, Any])
    # Other keys are skipped without decoding them, which makes wide rows cheap.
    fields: dict[str, Any] = dict.fromkeys(columns, NotRequired[Any])
    fields |= dict.fromkeys(required, _Value)
    make: Any = TypedDict
    return msgspec.json.Decoder(make("Row", fields))


def _one_per_line(decoder: msgspec.json.Decoder[Row], block: bytes) -> list[Row] | None:
    """Decode a whole block at once; ``None`` if its lines must be decoded one by one.

    The decoder accepts several objects on a line and objects that span lines. If each line starts with ``{`` and ends
    with ``}``, no line end is inside an object, because JSON never has ``}`` directly before ``{``. So if there are as many
    objects as lines, each line is one object.

    Removing the line ends and comparing lengths is several times as fast as counting them.
    """
    try:
        rows: list[Row] = decoder.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not block.startswith(b"{") or len(block) - len(block.replace(b"\n", b"")) != len(rows):
        return None
    return rows if not (_ODD_CRLF if block.endswith(b"\r\n") else _ODD_LF).search(block) else None


def _read_lines(decoder: _LineDecoder, block: bytes, start: Position, name: str, *, keep_bad: bool) -> Batch:
    rows: list[Row] = []
    bad: dict[int, RowFailure] = {}
    ends: list[int] = []
    lines: list[int] = []
    end = start.offset
    for number, line in enumerate(block.split(b"\n")[:-1], start.line + 1):
        end += len(line) + 1
        if text := line.removeprefix(UTF8_MARK).strip(b" \t\r"):
            try:
                row = _read_line(decoder, text, f"{name}, line {number}")
            except BadRowError as error:
                if not keep_bad:
                    raise
                bad[len(rows)], row = bad_row(error), error.rest
            rows.append(row)
            ends.append(end)
            lines.append(number)
    return TextBatch(rows, start, name=name, ends=ends, lines=lines, bad=bad)


def unusable_row(error: BadRowError) -> str:
    """The text that stands in a file for a row that cannot be written as JSON: who reads it gets the error.

    :param error: what is wrong with the row
    """
    return f"{_UNUSABLE}{error}"


def unusable_value(text: str) -> msgspec.Raw:
    """The JSON that stands in a file for a value that cannot be written as JSON: who needs its column gets the error.

    :param text: what is wrong with the value
    """
    escaped = _UNUSABLE_VALUE.encode("ascii", "backslashreplace").replace(b"\0", b"\\u0000")
    return msgspec.Raw(b'"' + escaped + msgspec.json.encode(text)[1:])


def _read_line(decoder: _LineDecoder, line: bytes, place: str) -> Row:
    try:
        if line.startswith(b'"'):
            text = msgspec.json.decode(line, type=str)
            if text.startswith(_UNUSABLE):
                raise BadRowError(text.removeprefix(_UNUSABLE))
            if is_row_as_text(text):
                raise BadRowError(f"{place}: the text {ROW_AS_TEXT}.")
            return {PROMPT: text}
        if not line.startswith(b"{"):
            value: Json = msgspec.json.decode(line)
            if isinstance(value, list) and value and all(isinstance(row, (dict, str)) for row in value):
                raise BadRowError(
                    f"{place}: expected a row, not a list of {counted(len(value), 'row')}. Pages of rows must be joined: "
                    "write one row per line, for example with jq -c '.[][]'."
                )
            raise BadRowError(
                f"{place}: expected an object or a text, not {_name(value)}. {_hint(line)}".strip()
            )
        return decoder(line, place)
    except UnicodeDecodeError:
        raise BadRowError(f"{place}: {_NOT_UTF8}") from None
    except RecursionError:
        raise BadRowError(f"{place}: the value is nested too deeply.") from None
    except msgspec.MsgspecError as error:
        raise BadRowError(f"{place}: not valid JSON ({_reason(error)}). {_hint(line)}".strip()) from None


def _reason(error: msgspec.MsgspecError) -> str:
    # Keep only the part of the decoder's message that cannot contain content of the row.
    return str(error).partition(" - at ")[0].removeprefix("JSON is malformed: ")


def _hint(line: bytes) -> str:
    return _HINTS.get(line[0], "")


def _name(value: Json) -> str:
    if value is None:
        return "null"
    return {bool: "a flag", list: "an array"}.get(type(value), "a number")
