"""Values of rows: everything that JSON can represent, or that can be converted to JSON without loss."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

_MAX_DEPTH = 100


def json_value(value: object, depth: int = 0) -> Json:
    """Convert a value of a row to JSON.

    Dates and times become ISO 8601 text; decimals become text with all their digits.

    :param value: text, number, flag, ``None``, or lists and mappings of these
    :param depth: nesting level of the value in the row
    :raises ValueError: for any other value; the message names its type and never contains the value itself
    """
    for kinds, convert in _SCALARS:
        if isinstance(value, kinds):
            return convert(value)
    if depth == _MAX_DEPTH:
        raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return {_key(key): json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [json_value(item, depth + 1) for item in value]
    raise ValueError(f"is {kind(value)}, which JSON cannot represent; convert it to text first")


def kind(value: object) -> str:
    """The type of a value for messages, such as ``of type bytes``."""
    return f"of type {type(value).__name__}"


def _same(value: bool | None) -> Json:
    return value


def _text(value: str) -> Json:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is text with half a surrogate pair, which is not valid Unicode") from None
    return str(value)


def _finite(value: float) -> Json:
    if not math.isfinite(value):
        raise ValueError("is NaN or infinite, which JSON cannot represent; use null for a missing number")
    return float(value)


def _moment(value: datetime | date | time) -> Json:
    return value.isoformat()


def _digits(value: Decimal) -> Json:
    if not value.is_finite():
        raise ValueError("is a decimal that is not finite")
    return str(value)


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(_text(key))
    raise ValueError(f"has a key {kind(key)}; keys must be text")


# Flags come before numbers, because bool is a subclass of int.
_SCALARS: tuple[tuple[tuple[type, ...], Callable[[Any], Json]], ...] = (
    ((str,), _text),
    ((bool, type(None)), _same),
    ((int,), int),
    ((float,), _finite),
    ((datetime, date, time), _moment),
    ((Decimal,), _digits),
)


Row = dict[str, "Json"]
"""One input row: column name to JSON value."""


def digest(value: Mapping[str, object]) -> str:
    """A hash of plain values.

    :param value: values that JSON can hold
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
