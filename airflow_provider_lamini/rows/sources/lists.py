"""Rows in the arguments of the task: a list of texts or mappings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.batch import Batch, Cursor, bad_row
from airflow_provider_lamini.rows.sources.records import PROMPT, as_mapping
from airflow_provider_lamini.rows.values import Row, json_value, kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.failures import RowFailure

_BATCH_SIZE = 1024


_ENCODER = msgspec.json.Encoder(order="sorted")


class _ListBatch(Batch):
    """Rows of a list."""

    def content(self) -> bytes | memoryview:
        # The order of keys decides nothing, so it must not make another input either.
        return _ENCODER.encode_lines(self.rows)

    def after(self, count: int) -> Cursor:
        return Cursor(self.start.row + count)

    def location(self, offset: int) -> str:
        return f"item {self.start.row + offset} of the list"


def check_rows(
    items: Iterable[object],
    bad: dict[int, RowFailure] | None = None,
    *,
    columns: Sequence[str] | None = None,
) -> list[Row]:
    """Convert the items of a list to rows.

    :param items: texts, each a row with the column ``prompt``, mappings of column to value, or records. A number counts as the
        text that it was before a template was rendered to native objects.
    :param bad: receives the items that cannot be used, which become empty rows, by number; ``None`` to raise an error
    :param columns: names for the values of rows that are sequences
    :raises BadRowError: for the first item that is neither, or contains a value that JSON cannot represent
    """
    if bad is None:
        return [as_row(item, number, columns) for number, item in enumerate(items)]
    rows: list[Row] = []
    for number, item in enumerate(items):
        try:
            rows.append(as_row(item, number, columns))
        except BadRowError as error:
            rows.append({})
            bad[number] = bad_row(error)
    return rows


def read_batches(
    rows: list[Row], start: Cursor, bad: Mapping[int, RowFailure], *, copies: bool = False
) -> Iterator[Batch]:
    """Read a list from a position.

    :param rows: the whole list
    :param start: the position
    :param bad: items that could not be used, by number
    :param copies: whether the caller changes the rows
    :raises InputError: if the list is shorter
    """
    if start.row > len(rows):
        raise InputError(
            f"The list has {len(rows)} rows, but the task should continue after row {start.row}."
        )
    rest = islice(rows, start.row, None)
    row = start.row
    while batch := list(islice(rest, _BATCH_SIZE)):
        here = {number - row: bad[number] for number in range(row, row + len(batch)) if number in bad}
        yield _ListBatch(list(map(dict, batch)) if copies else batch, Cursor(row), bad=here)
        row += len(batch)


def as_row(item: object, number: int, columns: Sequence[str] | None, owner: str = "the list") -> Row:
    """Convert one item to a row.

    :param item: a text, a mapping of column to value, or a record
    :param number: its number, for the error
    :param columns: names for the values of a row that is a sequence
    :param owner: what the item belongs to, for the error
    :raises BadRowError: if it is neither, or contains a value that JSON cannot represent
    """
    try:
        item = as_mapping(item, columns)
        value = json_value(item)
    except ValueError as error:
        raise BadRowError(f"row {number} of {owner}: {_failing_column(item)}{error}.") from None
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {PROMPT: value}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {PROMPT: str(value)}
    raise BadRowError(f"row {number} of {owner} is {kind(item)}: a text or a mapping of columns is expected.")


def _failing_column(item: object) -> str:
    """The first column of a mapping that cannot be used, for the error message."""
    if not isinstance(item, Mapping):
        return "it "
    for column, value in item.items():
        if not isinstance(column, str):
            return "it "
        try:
            json_value(value)
        except ValueError:
            return f"column {column!r} "
    return "it "
