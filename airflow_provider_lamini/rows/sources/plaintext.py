"""Reads plain text: each line that is not blank is a row with the column ``prompt``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.batch import Batch, Position, TextBatch, bad_row
from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.records import is_row_as_text
from airflow_provider_lamini.rows.sources.textfile import UTF8_MARK, InputFile, LineReader
from airflow_provider_lamini.rows.texts import is_blank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row

_SAMPLE = 64 * 1024
_BETWEEN_NAMES = re.compile(r"[\t,;|]")


def read_batches(file: InputFile, start: Position) -> Iterator[Batch]:
    """Read a file from a position.

    :param file: the file
    :param start: the position in this file
    :raises BadRowError: for the first line that is not valid text
    :raises InputError: if its lines end with carriage returns alone
    """
    with file.open_text() as stream:
        _check_line_ends(stream, file.name)
        _check_first_line(stream, file.name)
        reader = LineReader(file, stream, start.offset, start.line, drop_long=file.keep_bad)
        row = start.row
        for block in reader.blocks():
            place = Position(row, start.file, reader.offset, reader.lines)
            dropped = reader.dropped_line(place)
            batch = dropped or _read_lines(block, place, file)
            row += len(batch)
            reader.lines += block.count(b"\n") if dropped is None else 1
            yield batch


def _check_line_ends(stream: BinaryIO, name: str) -> None:
    """Make sure that lines do not end with carriage returns alone: all of them would be one prompt.

    :raises InputError: if they do
    """
    sample = stream.read(_SAMPLE)
    stream.seek(0)
    if b"\n" not in sample and b"\r" in sample.rstrip():
        raise InputError(
            f"{name} ends its lines with carriage returns alone, as old Macs do. End them with LF or CRLF."
        )


def _check_first_line(stream: BinaryIO, name: str) -> None:
    """Make sure that the lines are prompts, and not JSON or a table with the column ``prompt``.

    :raises InputError: if the first line says that they are
    """
    line = (
        stream.read(_SAMPLE)
        .removeprefix(UTF8_MARK)
        .lstrip()
        .partition(b"\n")[0]
        .decode(errors="replace")
        .strip()
    )
    stream.seek(0)
    names = [found.strip('"') for found in _BETWEEN_NAMES.split(line)]
    if PROMPT in names and all(map(str.isidentifier, names)):
        found = "csv' or 'tsv" if len(names) > 1 else "csv"
    elif line in ("{", "[") or is_row_as_text(line) or _is_array_of_rows(line):
        found = "jsonl"
    else:
        return
    raise InputError(
        f"{name} does not begin with a prompt, but as a file of another format does. Pass input_format='{found}'."
    )


def _is_array_of_rows(line: str) -> bool:
    """Whether a line is a whole JSON array of rows with the column ``prompt``."""
    if not line.startswith("["):
        return False
    try:
        rows = msgspec.json.decode(line, type=list[dict[str, msgspec.Raw]])
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(rows) and PROMPT in rows[0]


def _read_lines(block: bytes, start: Position, file: InputFile) -> TextBatch:
    rows: list[Row] = []
    ends: list[int] = []
    lines: list[int] = []
    bad: dict[int, RowFailure] = {}
    end = start.offset
    for number, line in enumerate(block.split(b"\n")[:-1], start.line + 1):
        end += len(line) + 1
        text: str | None
        try:
            text = line.removeprefix(UTF8_MARK).removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            wrong = BadRowError(
                f"{file.name}, line {number}: the line is not valid {file.encoding.upper()}. Pass "
                "csv_options={'encoding': ...}, or convert the file."
            )
            if not file.keep_bad:
                raise wrong from None
            text, bad[len(rows)] = None, bad_row(wrong)
        if text is None or not is_blank(text):
            rows.append({PROMPT: text})
            ends.append(end)
            lines.append(number)
    return TextBatch(rows, start, name=file.name, ends=ends, lines=lines, bad=bad)
