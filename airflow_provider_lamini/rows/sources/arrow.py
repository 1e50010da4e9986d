"""Arrow's columns as values of JSON: which types can be represented, and how their values are converted."""

from __future__ import annotations

import math
import operator
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.values import json_value

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8")
"""Types on top of others whose values Arrow gives as those of Python."""


def decode_columns(part: pa.RecordBatch) -> pa.RecordBatch:
    """Decode Arrow's dictionary columns, and columns of views, for which Arrow lacks functions.

    :param part: rows of a table
    """
    import pyarrow as pa

    columns = [_decoded(column) for column in part.columns]
    if all(map(operator.is_, columns, part.columns)):
        return part
    return pa.RecordBatch.from_arrays(columns, names=part.schema.names)


def _decoded(column: pa.Array) -> pa.Array:
    """A column without a dictionary or views."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if types.is_list_view(column.type) or types.is_large_list_view(column.type):
        # Arrow's own cast of views loses values.
        return pa.array(column.to_pylist(), pa.large_list(column.type.value_type))
    return column


def shortest_floats(part: pa.RecordBatch) -> pa.RecordBatch:
    """Make 32-bit floats 64-bit ones with as few digits as tell them apart: 0.1, and not 0.10000000149011612.

    :param part: rows of a table
    """
    import pyarrow as pa

    text, double = pa.string(), pa.float64()
    found = {field.name for field in part.schema if _with_floats(field.type, text) != field.type}
    if not found:
        return part
    columns = [
        column.cast(_with_floats(column.type, text)).cast(_with_floats(column.type, double))
        if field.name in found
        else column
        for field, column in zip(part.schema, part.columns, strict=True)
    ]
    fields = [field.with_type(column.type) for field, column in zip(part.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _with_floats(kind: pa.DataType, new: pa.DataType) -> pa.DataType:
    """A type in which another one takes the place of 32-bit floats."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_float32(kind):
        return new
    if types.is_fixed_size_list(kind):
        return pa.list_(_with_floats(kind.value_type, new), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(_with_floats(kind.value_type, new))
    if types.is_map(kind):
        return pa.map_(_with_floats(kind.key_type, new), _with_floats(kind.item_type, new))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_with_floats(field.type, new)) for field in kind])
    return kind


def exact_moments(values: pa.Array) -> pa.Array:
    """Moments and times in microseconds, as Python has them; as text if that would lose digits. Other values stay as they are.

    :param values: the values of a column
    """
    import pyarrow as pa
    from pyarrow import compute

    kind = values.type
    is_time = pa.types.is_time64(kind)
    if not (is_time or pa.types.is_timestamp(kind)) or kind.unit != "ns":
        return values
    try:
        return values.cast(pa.time64("us") if is_time else pa.timestamp("us", kind.tz))
    except pa.ArrowInvalid:
        if is_time:
            return values.cast(pa.string())
        offset = "" if kind.tz is None else "%Ez"
        return compute.strftime(values, f"%Y-%m-%dT%H:%M:%S{offset}")


def converter(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """A function that converts Arrow's values of a type to those of JSON; ``None`` if they need no conversion.

    :param kind: the type
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return converter(kind.value_type)
    if is_binary_type(kind) or types.is_float16(kind):
        return bytes.decode if is_binary_type(kind) else _shortest_half
    if types.is_map(kind):
        key, item = converter(kind.key_type), converter(kind.item_type)
        return lambda pairs: {
            _key_text(_converted(key, name)): _converted(item, each) for name, each in pairs
        }
    if _is_list(kind):
        inner = converter(kind.value_type)
        return None if inner is None else lambda values: [_converted(inner, value) for value in values]
    parts = {field.name: converter(field.type) for field in kind} if types.is_struct(kind) else {}
    if not any(parts.values()):
        return None
    return lambda values: {name: _converted(parts[name], value) for name, value in values.items()}


def _shortest_half(value: float) -> float:
    """A 16-bit float with as few digits as tell it apart, unlike Arrow's text of it. A whole number keeps its digits."""
    if value.is_integer() or not math.isfinite(value):
        return value
    bits = struct.pack("e", value)
    return next(
        short
        for short in (float(f"{value:.{digits}g}") for digits in range(1, 18))
        if struct.pack("e", short) == bits
    )


def _converted(convert: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _key_text(key: Any) -> str:
    """The key of a map as that of a JSON object."""
    plain = json_value(key)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def unrepresentable(kind: pa.DataType) -> str | None:
    """The part of a type that JSON cannot represent; ``None`` if it can represent all of it.

    :param kind: the type
    """
    from pyarrow import types

    if types.is_dictionary(kind) or _is_list(kind):
        return unrepresentable(kind.value_type)
    if types.is_map(kind):
        return unrepresentable(kind.key_type) or unrepresentable(kind.item_type)
    if types.is_struct(kind):
        inner = (unrepresentable(kind.field(number).type) for number in range(kind.num_fields))
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
        types.is_duration,
    )
    plain = is_text_type(kind) or is_binary_type(kind) or getattr(kind, "extension_name", "") in _EXTENSIONS
    return None if plain or any(test(kind) for test in known) else str(kind)


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    tests = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def is_binary_type(kind: pa.DataType) -> bool:
    """Whether the values of a type are bytes."""
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_text_type(kind: pa.DataType) -> bool:
    """Whether the values of a type are texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
