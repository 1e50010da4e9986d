"""Reads Parquet: only the needed columns, one row group after the other, in small batches."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.batch import Batch, Position, bad_row
from airflow_provider_lamini.rows.columns import KIND_KEY, Table, kinds_of_integers
from airflow_provider_lamini.rows.errors import BadRowError, ColumnError, InputError, MissingExtraError
from airflow_provider_lamini.rows.sources.arrow import (
    converter,
    decode_columns,
    exact_moments,
    is_binary_type,
    is_text_type,
    shortest_floats,
    unrepresentable,
)
from airflow_provider_lamini.rows.sources.projection import project_declared
from airflow_provider_lamini.rows.texts import all_visible, are_plain
from airflow_provider_lamini.rows.values import json_value
from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.sources.projection import Projection
    from airflow_provider_lamini.rows.sources.textfile import InputFile

_MAX_ROWS = 16_384
_MIN_ROWS = 64
_BATCH_BYTES = 4 * 1024 * 1024
_BUFFER = 1024 * 1024


class _GroupBatch(Batch):
    """Rows of one row group. They are converted to Python values on demand."""

    def __init__(
        self,
        part: pa.RecordBatch,
        columns: Mapping[str, _Column],
        start: Position,
        *,
        name: str,
        keep_bad: bool = False,
    ) -> None:
        super().__init__((), start)
        self._keep_bad = keep_bad
        self._part = part
        self._columns = columns
        self._name = name
        # Validation uses Arrow, unless there are values that only Python can check.
        self._by_arrow = not any(column.deep for column in columns.values())

    @cached_property
    def rows(self) -> Table:
        bad = self.bad if self._keep_bad else None
        return _table(self._part, self._columns, self.start, self._name, bad)

    def __len__(self) -> int:
        return int(self._part.num_rows)

    def check(self) -> None:
        if not self._by_arrow or not _fits_json(self._part, self._columns):
            self.rows  # noqa: B018 - its error names the row and what is wrong with it

    def first_missing(self, column: str) -> int | None:
        if self._part.column(column).null_count == 0 and not self._columns[column].may_be_missing:
            return None
        return super().first_missing(column)

    def characters(self, column: str) -> int:
        from pyarrow import compute

        values = self._part.column(column)
        if not is_text_type(values.type):
            return super().characters(column)
        return int(compute.sum(compute.utf8_length(values)).as_py() or 0)

    def has_blank(self, column: str) -> bool:
        from pyarrow import compute

        values = self._part.column(column)
        if not is_text_type(values.type):
            return self._columns[column].is_binary and super().has_blank(column)
        first = compute.unique(compute.utf8_slice_codeunits(values, 0, 1)).to_pylist()
        return not all_visible(text for text in first if text is not None) and super().has_blank(column)

    def has_conversation(self, column: str) -> bool:
        from pyarrow import compute

        values = self._part.column(column)
        if is_text_type(values.type):
            first = compute.unique(compute.utf8_slice_codeunits(values, 0, 1)).to_pylist()
            if are_plain(text for text in first if text):
                return False
        return super().has_conversation(column)

    def has(self, column: str) -> bool:
        return column in self._columns

    def kinds(self, column: str) -> set[type]:
        found = self._columns[column].kinds(self._part.column(column)) if self._by_arrow else None
        return super().kinds(column) if found is None else found

    def after(self, count: int) -> Position:
        start = self.start
        return Position(start.row + count, start.file, start.offset, start.line + count)

    def location(self, offset: int) -> str:
        return f"{self._name}, row group {self.start.offset}, row {self.start.line + offset} of it"


def read_batches(
    file: InputFile, start: Position, columns: Collection[str] | None, required: Collection[str] = ()
) -> Iterator[Batch]:
    """Read a file from a position.

    Dates and times become ISO 8601 text, decimals text with all their digits, maps objects, and binary values text if they
    are UTF-8.

    :param file: the file
    :param start: the position in this file
    :param columns: the columns to read; ``None`` for all that JSON can represent
    :param required: columns without which the file cannot be used
    :raises BadRowError: for a value that JSON cannot represent, such as NaN
    :raises ColumnError: if a required column is missing, or a column has a type that JSON cannot represent
    :raises InputError: if the file is incomplete or not Parquet
    :raises MissingExtraError: if pyarrow is not installed
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(
            f"{file.name}: reading Parquet needs pyarrow: pip install 'airflow-provider-lamini[parquet]'"
        ) from None
    with file.open() as stream:
        try:
            # With a buffer and without pre_buffer, a large row group is read in blocks.
            table = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
            schema = table.schema_arrow
            projection = project_declared(
                columns, schema.names, partitions=file.partitions, required=required, name=file.name
            )
            parts = _wanted_fields(schema, projection)
            selected = _columns(_narrowed(schema, parts), projection.names, file.name)
        except UnicodeDecodeError as error:
            raise InputError(f"{file.name}: a column name is not valid UTF-8.") from error
        except (pa.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise InputError(f"{file.name} is not a complete Parquet file.") from error
        try:
            for column in selected.values():
                if column.is_binary:
                    file.remark(f"binary column {short_name(column.name)} read as text")
            paths = [path for name in selected for path in parts.get(name, [name])]
            batches = _groups(table, start, selected, paths, file.name, keep_bad=file.keep_bad)
            yield from map(projection.apply, batches)
        except (pa.ArrowException, OSError) as error:
            if not _is_damage(error):
                raise
            raise InputError(f"{file.name} is damaged: its data cannot be decoded.") from error


def _is_damage(error: Exception) -> bool:
    """Whether an error of Arrow comes from the file, and not from a connection that broke while reading it."""
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def _wanted_fields(schema: pa.Schema, projection: Projection) -> dict[str, list[str]]:
    """The paths to read of structs of which only some fields are wanted, by the struct's column.

    The others need not be such as JSON can represent.

    :param schema: the columns of the file
    :param projection: how the wanted columns come from those of the file
    """
    from pyarrow import types

    found: dict[str, dict[str, None]] = {}
    for head, path in projection.fields.values():
        if schema.names.count(head) > 1:  # refused when it is read
            continue
        kind = schema.field(head).type
        names = [field.name for field in kind] if types.is_struct(kind) else []
        whole = projection.wanted is None or head in projection.wanted or names.count(path[0]) != 1
        found.setdefault(head, {})[head if whole else f"{head}.{path[0]}"] = None
    return {head: list(paths) for head, paths in found.items() if head not in paths}


def _narrowed(schema: pa.Schema, parts: Mapping[str, Sequence[str]]) -> pa.Schema:
    """The columns of a file with only the wanted fields of their structs."""
    import pyarrow as pa

    fields = []
    for field in schema:
        if field.name in parts:
            kept = [inner for inner in field.type if f"{field.name}.{inner.name}" in parts[field.name]]
            field = field.with_type(pa.struct(kept))  # noqa: PLW2901 - the same field
        fields.append(field)
    return pa.schema(fields)


def _groups(
    table: pq.ParquetFile,
    start: Position,
    columns: Mapping[str, _Column],
    paths: Sequence[str],
    name: str,
    *,
    keep_bad: bool,
) -> Iterator[Batch]:
    place = start
    for group in range(start.offset, table.num_row_groups):
        if group > place.offset:
            place = Position(place.row, place.file, group, 0)
        skip = place.line
        batches = table.iter_batches(
            batch_size=_rows_at_once(table.metadata.row_group(group)),
            row_groups=[group],
            columns=paths,
            use_threads=False,
        )
        for part in batches:
            if skip >= part.num_rows:
                skip -= part.num_rows
                continue
            usual = shortest_floats(decode_columns(part.slice(skip)))
            batch = _GroupBatch(usual, columns, place, name=name, keep_bad=keep_bad)
            skip = 0
            place = batch.after(len(batch))
            yield batch


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """Number of rows with a few megabytes. Sizes are uncompressed, but repeated values count once."""
    size, count = int(group.total_byte_size), int(group.num_rows)
    return max(_MIN_ROWS, min(_MAX_ROWS, _BATCH_BYTES * count // max(size, 1)))


def _fits_json(part: pa.RecordBatch, columns: Mapping[str, _Column]) -> bool:
    """Whether all texts are valid UTF-8 and all numbers are finite."""
    import pyarrow as pa
    from pyarrow import compute

    try:
        part.validate(full=True)
    except pa.ArrowException:
        return False
    floats = [name for name, column in columns.items() if column.floats]
    return all(compute.all(compute.is_finite(part.column(name))).as_py() is not False for name in floats)


def _table(
    part: pa.RecordBatch,
    columns: Mapping[str, _Column],
    place: Position,
    name: str,
    bad: dict[int, RowFailure] | None,
) -> Table:
    """Convert rows to Python values.

    :param bad: receives the rows that cannot be converted, by offset; ``None`` to raise an error
    """
    try:
        values: dict[str, list[Any]] = {
            column: exact_moments(part.column(column)).to_pylist() for column in columns
        }
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        if bad is None:
            raise BadRowError(f"{name}, row group {place.offset}: {_undecodable(error)}") from error
        values = _one_by_one(part, columns, bad, f"{name}, row group {place.offset}")
    for column_name, column in columns.items():
        column.convert(values[column_name], place, name, bad)
    return Table(values, part.num_rows)


def _one_by_one(
    part: pa.RecordBatch, columns: Mapping[str, _Column], bad: dict[int, RowFailure], location: str
) -> dict[str, list[Any]]:
    """Convert values of which at least one cannot be converted; such values become ``None``."""
    found: dict[str, list[Any]] = {}
    for column in columns:
        values = found[column] = []
        for offset, value in enumerate(part.column(column)):
            try:
                values.append(value.as_py())
            except (UnicodeDecodeError, ValueError, OverflowError) as error:
                values.append(None)
                bad[offset] = bad_row(BadRowError(f"{location}: column {column!r}: {_undecodable(error)}"))
    return found


def _undecodable(error: Exception) -> str:
    """Why a value of a row cannot be converted."""
    if isinstance(error, UnicodeDecodeError):
        return "a text is not valid UTF-8."
    if "field names" in str(error):
        return "a struct has two fields with the same name. Rename one of them."
    if "zone" in str(error):
        return "a time zone is unknown on this machine. Convert the column to UTC or to text first."
    # Arrow supports nanoseconds and years beyond 9999; Python does not.
    return (
        "a date or a time cannot be converted to text: Python supports microseconds and the years 1 to 9999. Convert the "
        "column to text first, or leave it out."
    )


class _Column:
    """Converts the values of one column to JSON.

    :param name: name of the column
    :param kind: its type; for a dictionary column, the type of the values
    """

    def __init__(self, name: str, kind: pa.DataType, *, is_json: bool = False) -> None:
        from pyarrow import types

        self.name = name
        self._convert = msgspec.json.decode if is_json else converter(kind)
        self.is_binary = is_binary_type(kind)
        """Whether the values are bytes, which are read as text."""
        self._value_type = next(
            (value_type for test, value_type in _VALUE_TYPES if getattr(types, f"is_{test}")(kind)),
            str if is_text_type(kind) else None,
        )
        if is_json:
            self._value_type = None
        self.floats = self._value_type is float
        """Whether the values are plain floating point numbers."""
        self.deep = self._value_type is None
        """Whether each value must be checked recursively."""
        self.may_be_missing = is_json
        """Whether a value can be missing that is not null: the JSON text of null."""

    def convert(
        self, values: list[Any], place: Position, file: str, bad: dict[int, RowFailure] | None
    ) -> None:
        """Convert the values in place.

        :param bad: receives the rows whose value cannot be used, by offset; ``None`` to raise an error
        """
        if self.floats:
            if all(value is None or math.isfinite(value) for value in values):
                return
        elif not self.deep:
            return
        convert = self._convert
        for offset, value in enumerate(values):
            try:
                values[offset] = json_value(value if convert is None or value is None else convert(value))
            except (ValueError, msgspec.MsgspecError) as error:
                reason = "is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                wrong = BadRowError(
                    f"row {place.row + offset} ({file}, row group {place.offset}, row {place.line + offset} of "
                    f"it): column {self.name!r} {reason}."
                )
                if bad is None:
                    raise wrong from None
                values[offset], bad[offset] = None, bad_row(wrong)

    def kinds(self, values: pa.Array) -> set[type] | None:
        """The types of the values (`columns.kinds_of`); ``None`` if the column's type does not determine them."""
        from pyarrow import compute

        if self._value_type is None:
            return None
        if values.null_count == len(values):
            return set()
        if self._value_type is not int:
            return {self._value_type}
        ends = compute.min_max(values)
        return kinds_of_integers(ends["min"].as_py(), ends["max"].as_py())


_VALUE_TYPES: tuple[tuple[str, type], ...] = (
    ("boolean", bool),
    ("integer", int),
    ("float32", float),
    ("float64", float),
    ("null", type(None)),
)
"""Python type of the values of a column, by Arrow's name of the column type."""


def _columns(schema: pa.Schema, columns: Collection[str] | None, name: str) -> dict[str, _Column]:
    names: list[str] = schema.names
    if columns is None:
        # Nobody has asked for a certain column, so those that cannot be represented are left out.
        return {
            column: _column(column, schema.field(column), name)
            for column in names
            if names.count(column) == 1 and unrepresentable(schema.field(column).type) is None
        }
    selected = [column for column in names if column in columns]
    twice = next((column for column in selected if names.count(column) > 1), None)
    if twice is not None:
        raise ColumnError(f"{name} has more than one column {twice!r}.")
    return {column: _column(column, schema.field(column), name) for column in selected}


def _column(column: str, field: pa.Field, name: str) -> _Column:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    refused = unrepresentable(kind)
    if refused is not None:
        raise ColumnError(
            f"{name}: column {column!r} has the type {kind}, and JSON cannot represent {refused}. "
            "Convert it to text first, or leave the column out."
        )
    return _Column(column, kind, is_json=(field.metadata or {}).get(KIND_KEY) == b"json")
