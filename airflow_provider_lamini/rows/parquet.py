"""Parquet: only the columns that are needed, row group by row group, in small batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.rows.batch import Batch, Cursor, Row
from airflow_provider_lamini.rows.errors import (
    BadRowError,
    ColumnError,
    InputError,
    MissingColumnError,
    MissingExtraError,
)
from airflow_provider_lamini.rows.values import json_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_provider_lamini.rows.textfile import InputFile

_ROWS = 1024
_BUFFER = 1024 * 1024


class _GroupBatch(Batch):
    """Rows of one row group."""

    def __init__(self, rows: list[Row], start: Cursor, *, name: str) -> None:
        super().__init__(rows, start)
        self._name = name

    def after(self, count: int) -> Cursor:
        start = self.start
        return Cursor(start.row + count, start.file, start.at, start.line + count)

    def place(self, offset: int) -> str:
        return f"{self._name}, row group {self.start.at}, row {self.start.line + offset} of it"


def read_batches(file: InputFile, start: Cursor, columns: Collection[str] | None) -> Iterator[Batch]:
    """Read a file from a place on.

    Dates and times become ISO 8601 text, decimals become text with all their digits.

    :param file: the file
    :param start: the place, in this file
    :param columns: the columns to read; ``None`` for all
    :raises BadRowError: for a value that JSON cannot say, such as NaN
    :raises ColumnError: for a column that is missing, or of a type that JSON cannot say
    :raises InputError: for a file that is not whole or not Parquet
    :raises MissingExtraError: without pyarrow
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{file.name}: reading Parquet needs pyarrow. Install airflow-provider-lamini[parquet]."
        ) from error
    with file.open() as stream:
        try:
            # Without pre_buffer and with a buffer, a large row group is read piece by piece.
            table = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
            converters = _converters(table.schema_arrow, columns, file.name)
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name}: the name of a column is not valid UTF-8.") from error
        except (pa.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise InputError(f"{file.name} is not a whole Parquet file.") from error
        try:
            yield from _groups(table, start, converters, file.name)
        except (pa.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise InputError(f"{file.name} is damaged: its data cannot be decoded.") from error


def _is_damage(error: Exception) -> bool:
    """Whether a failure of Arrow is the file's fault, and not that of a connection that broke while we read."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def _groups(
    table: pq.ParquetFile, start: Cursor, converters: dict[str, _Column], name: str
) -> Iterator[Batch]:
    place = start
    for group in range(start.at, table.num_row_groups):
        if group > place.at:
            place = Cursor(place.row, place.file, group, 0)
        skip = place.line
        batches = table.iter_batches(
            batch_size=_ROWS, row_groups=[group], columns=list(converters), use_threads=False
        )
        for part in batches:
            if skip >= part.num_rows:
                skip -= part.num_rows
                continue
            batch = _GroupBatch(_rows(part.slice(skip), converters, place, name), place, name=name)
            skip = 0
            place = batch.after(len(batch.rows))
            yield batch


def _rows(part: pa.RecordBatch, columns: dict[str, _Column], place: Cursor, name: str) -> list[Row]:
    if not columns:
        return [{} for _ in range(part.num_rows)]
    try:
        rows: list[Row] = part.select(list(columns)).to_pylist()
    except UnicodeDecodeError as error:
        raise BadRowError(f"{name}, row group {place.at}: a text is not valid UTF-8.") from error
    except (ValueError, OverflowError) as error:
        # Arrow has times with nanoseconds, and years beyond 9999; Python, and so ISO 8601 as it writes it, has not.
        raise BadRowError(
            f"{name}, row group {place.at}: a date or a time cannot be said in text. Python knows microseconds and "
            "the years 1 to 9999; turn the column into text first, or leave it out."
        ) from error
    for column in columns.values():
        column.convert(rows, place, name)
    return rows


class _Column:
    """Makes the values of one column JSON-able.

    :param name: the column
    :param floats: whether the values are plain floating point numbers
    :param deep: whether each value must be looked at in full
    """

    def __init__(self, name: str, *, floats: bool, deep: bool) -> None:
        self._name = name
        self._floats = floats
        self._deep = deep

    def convert(self, rows: list[Row], place: Cursor, file: str) -> None:
        """Convert the column in all rows."""
        if self._floats:
            values: list[Any] = [row[self._name] for row in rows]
            if all(value is None or math.isfinite(value) for value in values):
                return
        elif not self._deep:
            return
        for offset, row in enumerate(rows):
            try:
                row[self._name] = json_value(row[self._name])
            except ValueError as error:
                raise BadRowError(
                    f"row {place.row + offset} ({file}, row group {place.at}, row {place.line + offset} of "
                    f"it): column {self._name!r} {error}."
                ) from None


def _converters(schema: pa.Schema, columns: Collection[str] | None, name: str) -> dict[str, _Column]:
    names: list[str] = schema.names
    wanted = names if columns is None else [column for column in names if column in columns]
    missing = [column for column in columns or () if column not in names]
    if missing:
        raise MissingColumnError.of(name, missing[0], names)
    twice = next((column for column in wanted if names.count(column) > 1), None)
    if twice is not None:
        raise ColumnError(f"{name} has more than one column {twice!r}.")
    return {column: _column(column, schema.field(column).type, name) for column in wanted}


def _column(column: str, kind: pa.DataType, name: str) -> _Column:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    refused = _refused(kind)
    if refused is not None:
        raise ColumnError(
            f"{name}: column {column!r} has the type {kind}, and {refused} cannot be said in JSON. "
            "Turn it into text first, or leave the column out."
        )
    plain = types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind) or _is_text(kind)
    floats = types.is_floating(kind)
    return _Column(column, floats=floats, deep=not plain and not floats)


def _refused(kind: pa.DataType) -> str | None:
    """What in a type has no place in JSON, or ``None``."""
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        return _refused(kind.value_type)
    if types.is_fixed_size_list(kind):
        return _refused(kind.value_type)
    if types.is_struct(kind):
        inner = (_refused(kind.field(number).type) for number in range(kind.num_fields))
        return next((found for found in inner if found is not None), None)
    known = (
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_null,
        types.is_decimal,
        types.is_date,
        types.is_time,
        types.is_timestamp,
    )
    return None if _is_text(kind) or any(test(kind) for test in known) else str(kind)


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
