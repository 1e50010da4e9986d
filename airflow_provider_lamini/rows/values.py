"""Values of rows: everything that JSON can represent or take without loss, and what is left of a row with other values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_lamini.api.call import Json

_MAX_DEPTH = 100
_MAX_DIGITS = 400
_MAX_BITS = 13_287
"""Bits of an integer with 4,000 digits; Python does not convert much longer ones to text."""
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS = 1_000_000
"""In a second."""
_DOUBLE = 8
"""Bytes of a 64-bit float."""
_CONVERSIONS = ("as_py", "to_pylist", "tolist", "to_list")
"""Methods by which other libraries give what their objects hold."""


def json_value(value: object, depth: int = 0) -> Json:
    """Convert a value of a row to JSON.

    Dates and times become ISO 8601 text; decimals, UUIDs and paths become text. Scalars and arrays of numpy, pandas, polars
    and Arrow become what they hold. A missing value (`is_missing`) becomes ``None``.

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
    plain = _plain(value)
    if plain is value:
        raise ValueError(f"is {kind(value)}, which JSON cannot represent; convert it to text first")
    return json_value(plain, depth + 1)


def is_missing(value: object) -> bool:
    """Whether a value is missing: ``None``, and the missing values of pandas and numpy (``NA``, ``NaT``).

    The texts ``nan`` and ``None`` are texts. NaN is a number that JSON lacks, so a row with it cannot be used; only in a
    DataFrame (`tables.table_rows`) it stands for a missing value.

    :param value: a value of a row
    """
    is_no_time = isinstance(value, date) and value != value  # noqa: PLR0124 - pandas' NaT
    return value is None or is_no_time or type(value).__name__ == "NAType"


def is_path_object(value: object) -> bool:
    """Whether a value is a path as an object: of ``pathlib``, or Airflow's ``ObjectStoragePath``."""
    # Airflow's class derives from pathlib's only before Airflow 3. Its text includes the connection.
    return isinstance(value, PurePath) or any(
        base.__name__ in ("ObjectStoragePath", "UPath") for base in type(value).__mro__
    )


def kind(value: object) -> str:
    """The type of a value for messages, such as ``of type bytes``; ``None`` for ``None``."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _same(value: bool | None) -> Json:
    return value


def _text(value: str) -> Json:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is text with half a surrogate pair, which is not valid Unicode") from None
    return str.__str__(value)  # an enum whose members are texts overrides str()


def _integer(value: int) -> Json:
    if value.bit_length() > _MAX_BITS:
        raise ValueError("is an integer of more than 4,000 digits")
    return int(value)


def _finite(value: float) -> Json:
    if not math.isfinite(value):
        raise ValueError("is NaN or infinite, which JSON cannot represent; use null for a missing number")
    return float(value)


def _moment(value: datetime | date | time) -> Json:
    return None if is_missing(value) else value.isoformat()


def _duration(value: timedelta) -> Json:
    """A duration in days, hours, minutes and seconds, as ISO 8601 writes it: ``P1DT2H0.5S``."""
    sign, length = "-" if value < timedelta(0) else "", abs(value)
    micros = length // _MICROSECOND
    seconds, fraction = divmod(micros, _MICROSECONDS)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    # Only pandas has nanoseconds.
    digits = f"{fraction:06d}{getattr(length, 'nanoseconds', 0):03d}".rstrip("0")
    clock = "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M")) if count)
    if seconds or digits or not (days or clock):
        clock += f"{seconds}{'.' if digits else ''}{digits}S"
    return f"{sign}P{f'{days}D' if days else ''}{'T' if clock else ''}{clock}"


def _digits(value: Decimal) -> Json:
    if not value.is_finite():
        raise ValueError("is a decimal that is not finite")
    # Databases give zero as 0E-8. A huge exponent stays one, because its digits would fill the memory.
    return str(value) if abs(value.adjusted()) > _MAX_DIGITS else format(value, "f")


def _plain(value: object) -> object:
    """What an object of another library holds; the object itself if it is not known."""
    if is_missing(value):
        return None
    if is_path_object(value) or type(value).__module__ in ("uuid", "ipaddress"):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    library = type(value).__module__.partition(".")[0]
    if library == "numpy":
        return _plain_array(value)
    if library == "pandas" and type(value).__name__ == "Period":
        return str(value)  # such as 2024-01
    names = _CONVERSIONS if library in ("pandas", "polars", "pyarrow") else ()
    convert = next((getattr(value, name) for name in names if hasattr(value, name)), None)
    return value if convert is None else convert()


def _plain_array(value: Any) -> object:
    """The content of an array or a scalar of numpy."""
    letter = value.dtype.kind if hasattr(value, "dtype") else ""
    if letter == "m" and value.ndim == 0:
        return None if value != value else _plain_duration(value)  # noqa: PLR0124 - the missing duration
    if letter in "SV":  # bytes and structures stay what they are
        return value
    if letter == "m":
        return list(value)
    if letter != "M":
        short = letter == "f" and value.dtype.itemsize < _DOUBLE
        # A shorter float with as few digits as tell it apart: 0.1, and not 0.10000000149011612.
        exact = value.astype("str").astype("float64") if short else value
        return float(exact) if letter == "f" and value.ndim == 0 else exact.tolist()
    return _plain_moment(value) if value.ndim == 0 else list(value)


def _plain_duration(value: Any) -> object:
    """A duration of numpy; the value itself if it has months, or is finer than Python's."""
    if str(value.dtype) in ("timedelta64[M]", "timedelta64[Y]"):
        return value
    micros = value.astype("timedelta64[us]")
    plain = micros.astype(object)
    return plain if isinstance(plain, timedelta) and value == micros else value


def _plain_moment(value: Any) -> str | None:
    """A moment of numpy, which may be finer than Python's."""
    if value != value:  # noqa: PLR0124 - the missing moment
        return None
    moment = value.astype("datetime64[us]")
    plain = moment.tolist() if moment == value else None
    if not isinstance(plain, datetime):
        return str(value)
    is_day = str(value.dtype) in ("datetime64[D]", "datetime64[M]", "datetime64[Y]", "datetime64[W]")
    return (plain.date() if is_day else plain).isoformat()


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(_text(key))
    raise ValueError(f"has a key {kind(key)}; keys must be text")


# Flags come before numbers, because bool is a subclass of int.
_SCALARS: tuple[tuple[tuple[type, ...], Callable[[Any], Json]], ...] = (
    ((str,), _text),
    ((bool, type(None)), _same),
    ((int,), _integer),
    ((float,), _finite),
    ((datetime, date, time), _moment),
    ((timedelta,), _duration),
    ((Decimal,), _digits),
)


Row = dict[str, "Json"]
"""One input row: column name to JSON value."""


_MAX_FIELD_DEPTH = 20
"""Levels of mappings below which a value is used as a whole or not at all."""


def split_usable(
    record: Mapping[str, object], mark: Callable[[str, str], object] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a row that JSON can represent, and what is wrong with the others.

    :param record: the columns, with valid text as their names
    :param mark: takes the name and the problem of a value that cannot be used, and returns what stands in its place;
        ``None`` leaves it out
    :return: the row, and the problems by column or dotted field
    """
    row: dict[str, Any] = {}
    problems: dict[str, str] = {}
    _split(record, "", row, problems, mark)
    return row, problems


def _split(
    value: Mapping[str, object],
    prefix: str,
    row: dict[str, Any],
    problems: dict[str, str],
    mark: Callable[[str, str], object] | None,
) -> None:
    for key, item in value.items():
        try:
            row[key] = json_value(item)
        except ValueError as error:
            name = f"{prefix}{key}"
            if has_fields(item) and prefix.count(".") < _MAX_FIELD_DEPTH:
                row[key] = {}
                _split(item, f"{name}.", row[key], problems, mark)
                continue
            problems[name] = str(error)
            if mark is not None:
                row[key] = mark(name, str(error))


def has_fields(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a value is a mapping whose keys are valid names of columns or fields.

    :param value: any value
    """
    if not isinstance(value, Mapping):
        return False
    try:
        json_value(dict.fromkeys(value))
    except ValueError:
        return False
    return True


def first_needed(problems: Mapping[str, str], wanted: Collection[str] | None) -> str | None:
    """The first value that cannot be used and is needed.

    :param problems: what is wrong with columns and dotted fields
    :param wanted: the columns and fields that are needed; ``None`` for all
    :return: its name; ``None`` if there is none
    """
    return next(
        (
            name
            for name in problems
            if wanted is None
            or any(
                each == name or each.startswith(f"{name}.") or name.startswith(f"{each}.") for each in wanted
            )
        ),
        None,
    )
