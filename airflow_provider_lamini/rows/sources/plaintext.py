"""Reads plain text: each line that is not blank is a row with the column ``prompt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.blank import is_blank
from airflow_provider_lamini.rows.errors import BadRowError
from airflow_provider_lamini.rows.sources.batch import Batch, Cursor, TextBatch, bad_row
from airflow_provider_lamini.rows.sources.records import PROMPT
from airflow_provider_lamini.rows.sources.textfile import InputFile, LineReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.values import Row


def read_batches(file: InputFile, start: Cursor) -> Iterator[Batch]:
    """Read a file from a position.

    :param file: the file
    :param start: the position in this file
    :raises BadRowError: for the first line that is not valid text
    """
    with file.open_text() as stream:
        reader = LineReader(file, stream, start.offset, start.line)
        row = start.row
        for block in reader.blocks():
            batch = _read_lines(
                block, Cursor(row, start.file, reader.offset, reader.lines), file.name, keep_bad=file.keep_bad
            )
            row += len(batch)
            reader.lines += block.count(b"\n")
            yield batch


def _read_lines(block: bytes, start: Cursor, name: str, *, keep_bad: bool) -> TextBatch:
    rows: list[Row] = []
    ends: list[int] = []
    lines: list[int] = []
    bad: dict[int, RowFailure] = {}
    end = start.offset
    for number, line in enumerate(block.split(b"\n")[:-1], start.line + 1):
        end += len(line) + 1
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            wrong = BadRowError(
                f"{name}, line {number}: the line is not valid UTF-8. Pass csv_options={{'encoding': ...}}, or convert the file."
            )
            if not keep_bad:
                raise wrong from None
            text, bad[len(rows)] = "?", bad_row(wrong)
        if not is_blank(text):
            rows.append({PROMPT: text})
            ends.append(end)
            lines.append(number)
    return TextBatch(rows, start, name=name, ends=ends, lines=lines, bad=bad)
