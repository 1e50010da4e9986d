"""DataFrames, Series, arrays and Arrow tables as rows. Their libraries are not imported: whoever has such an object has them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast, overload

from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import ColumnError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIBRARIES = ("pandas", "polars", "pyarrow", "numpy")


def is_table(value: object) -> bool:
    """Whether a value is a DataFrame, a Series, an array or an Arrow table."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    return (
        library in _LIBRARIES
        and getattr(value, "ndim", 1) != 0
        and any(
            hasattr(kind, name) for name in ("iloc", "to_dicts", "to_pylist", "tolist", "to_list", "collect")
        )
    )


def table_rows(value: object) -> Sequence[object]:
    """The rows of a table, converted when they are read.

    :param value: a DataFrame or an Arrow table, whose rows become mappings; or a Series or an array of texts. The index of a
        DataFrame or a Series becomes columns if it has names.
    :raises InputError: if it is a lazy frame
    :raises ColumnError: if no column has a text as its name
    """
    table: Any = value
    if hasattr(table, "schema") and hasattr(table, "num_rows"):  # a table or a record batch of Arrow
        return _arrow_rows(table)
    if hasattr(table, "to_dicts"):  # polars
        return _Slices(len(table), lambda begin, end: _dicts(table[begin:end]), table.columns)
    if hasattr(table, "iloc") and (hasattr(table, "columns") or _has_named_index(table)):  # pandas
        return _pandas_rows(table)
    if hasattr(table, "collect"):
        raise InputError("The input is a lazy frame. Pass its rows: call collect() first.")
    fields = getattr(getattr(table, "dtype", None), "names", None)
    if fields and table.ndim == 1:  # a structured array of numpy
        return [{name: record[name] for name in fields} for record in table]
    if str(getattr(table, "dtype", "")) in ("float16", "float32"):
        table = table.astype("str").astype("float64")
    if getattr(table, "ndim", 1) == 2:  # noqa: PLR2004 - rows of values, and never pages of texts
        return list(map(tuple, table.tolist()))
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(table, method):
            return list(map(_without_nan, getattr(table, method)()))
    raise InputError(f"The input is of type {type(value).__name__}, which has no rows.")


def _pandas_rows(table: Any) -> Sequence[object]:
    named = _with_index(table if hasattr(table, "columns") else _frame_of_series(table))
    found = _usable([str(name) if isinstance(name, int) else name for name in named.columns])
    plain = named.iloc[:, found.positions].set_axis(found.names, axis=1)
    return _Slices(
        len(plain),
        lambda begin, end: _records(plain.iloc[begin:end]),
        found.names,
        found.repeated,
        found.unnamed,
    )


def join_tables(tables: Sequence[_Slices]) -> _Slices:
    """The rows of several tables as those of one, in their order, converted when they are read.

    :param tables: what `table_rows` has returned for each
    """
    ends = list(accumulate(map(len, tables)))

    def rows(begin: int, end: int) -> list[object]:
        found: list[object] = []
        for number in range(bisect_right(ends, begin), len(tables)):
            first = ends[number] - len(tables[number])
            if first >= end:
                break
            found += tables[number].make(max(0, begin - first), min(end, ends[number]) - first)
        return found

    repeated = dict.fromkeys(name for table in tables for name in table.repeated)
    columns = dict.fromkeys(name for table in tables for name in table.columns if name not in repeated)
    unnamed = dict.fromkeys(name for table in tables for name in table.unnamed)
    return _Slices(ends[-1], rows, list(columns), list(repeated), list(unnamed))


def repeated_names(names: Sequence[str]) -> list[str]:
    """Names that several columns have.

    :param names: the names of all columns
    """
    return [name for name, count in Counter(names).items() if count > 1]


def is_sliced(rows: object) -> TypeGuard[_Slices]:
    """Whether rows are those of a table, which are made when they are read."""
    return isinstance(rows, _Slices)


def is_row_of_frame(value: Any) -> bool:
    """Whether a value is a row of a DataFrame, as ``iterrows()`` gives it: a Series with the columns as its index.

    :param value: a table (`is_table`)
    """
    if not hasattr(value, "iloc") or hasattr(value, "columns") or _has_named_index(value) or not len(value):
        return False
    return all(isinstance(name, str) for name in value.index)


def _has_named_index(table: Any) -> bool:
    return any(name is not None for name in table.index.names)


def _frame_of_series(series: Any) -> Any:
    """A Series with a named index as a frame with its values in the column ``prompt``, unless the index has that name."""
    others = series.name if isinstance(series.name, str) and series.name != PROMPT else "value"
    return series.to_frame(others if PROMPT in series.index.names else PROMPT)


def _with_index(frame: Any) -> Any:
    """A frame of pandas whose named index is columns. A column of that name counts instead of it."""
    names = frame.index.names
    if not _has_named_index(frame):
        return frame
    known = [level for level, name in enumerate(names) if name in frame.columns]
    kept = frame.reset_index(level=known, drop=True) if known else frame
    return kept if len(known) == len(names) else kept.reset_index()


def repeated_columns(rows: object) -> Sequence[str]:
    """Names that several columns of a table have, so that its rows lack these columns.

    :param rows: what `table_rows` has returned, or any other rows
    """
    return rows.repeated if isinstance(rows, _Slices) else ()


def _dicts(frame: Any) -> Sequence[object]:
    """Rows of polars as mappings. NaN is a missing value, as in other frames, except within lists and structs."""
    import polars as pl

    exact = {name: _exact_of_polars(frame[name]) for name in frame.columns}
    try:
        rows: list[dict[str, object]] = frame.with_columns(**exact).to_dicts()
    except (
        pl.exceptions.PanicException
    ) as error:  # of the first releases, where later ones raise a ValueError
        raise ValueError(str(error)) from error
    for name, kind in frame.schema.items():
        if kind == pl.Binary or kind.is_float():
            for row in rows:
                row[name] = _without_nan(row[name]) if kind.is_float() else _decoded(row[name])
    return cast("Sequence[object]", rows)


def _decoded(value: object) -> object:
    """Bytes as text; the value itself if it is none, so that its row is refused with the column's name."""
    return _converted(bytes.decode, value) if isinstance(value, bytes) else value


def _exact_of_polars(column: Any) -> Any:
    """A column of polars whose values are exact in Python: short floats, and text of moments that are finer than Python's."""
    import polars as pl

    kind = column.dtype
    by_text = _with_floats_of_polars(kind, pl.String)
    if by_text != kind:
        return column.cast(by_text).cast(_with_floats_of_polars(kind, pl.Float64))
    is_moment = isinstance(kind, pl.Datetime) and kind.time_unit == "ns"
    if (is_moment or kind == pl.Time) and (column.dt.nanosecond() % 1000 != 0).any():
        offset = "%:z" if is_moment and kind.time_zone else ""
        return column.dt.strftime(f"{'%Y-%m-%dT' if is_moment else ''}%H:%M:%S%.9f{offset}")
    return column


def _with_floats_of_polars(kind: Any, new: Any) -> Any:
    """A type of polars in which another one takes the place of 32-bit floats."""
    import polars as pl

    kind_of_maps: Any = getattr(pl, "Map", ())  # newer than polars 1
    if kind == pl.Float32:
        return new
    if isinstance(kind, pl.List):
        return pl.List(_with_floats_of_polars(kind.inner, new))
    if isinstance(kind, pl.Array):
        return pl.Array(_with_floats_of_polars(kind.inner, new), kind.size)
    if isinstance(kind, kind_of_maps):
        return pl.Map(kind.key, _with_floats_of_polars(kind.value, new))
    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: _with_floats_of_polars(field.dtype, new) for field in kind.fields})
    return kind


_SHORT_FLOATS = re.compile(r"float(16|32)", re.IGNORECASE)
"""Types of pandas with floats of fewer than 64 bits."""


def _records(frame: Any) -> Sequence[object]:
    """Rows of pandas as mappings. NaN is its missing value, except within objects."""
    short = {name: kind for name, kind in map(_short_floats, frame.dtypes.items()) if kind is not None}
    records = [
        {
            name: _shortest(value, short[name]) if name in short else _without_nan(value)
            for name, value in record.items()
        }
        for record in frame.to_dict("records")
    ]
    of_arrow = [name for name, kind in frame.dtypes.items() if hasattr(kind, "pyarrow_dtype")]
    if of_arrow:
        for record, row in zip(records, _arrow_slice(_arrow_columns(frame[of_arrow])), strict=True):
            record |= {name: _without_nan(value) for name, value in row.items()}
    return records


def _short_floats(column: tuple[str, object]) -> tuple[str, str | None]:
    """The name of a column of pandas, and numpy's name of its floats if they have fewer than 64 bits."""
    found = _SHORT_FLOATS.fullmatch(str(column[1]))
    return column[0], None if found is None else found[0].lower()


def _shortest(value: Any, kind: str) -> object:
    """A shorter float with as few digits as tell it apart."""
    import numpy as np  # pandas needs it

    if not isinstance(value, (float, np.floating)):
        return value
    return _without_nan(float(str(np.dtype(kind).type(value))))


def _without_nan(value: object) -> object:
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN


def _arrow_columns(frame: Any) -> Any:
    """Columns of pandas that hold Arrow's values, as a table of Arrow."""
    import pyarrow as pa

    return pa.table({name: frame[name].array.__arrow_array__() for name in frame.columns})


def _arrow_rows(table: Any) -> Sequence[object]:
    import pyarrow as pa

    found = _usable(table.schema.names)
    usable = pa.table(table.select(found.positions))

    def rows(begin: int, end: int) -> Sequence[object]:
        # Without columns, a table of Arrow has no rows either.
        return _arrow_slice(usable.slice(begin, end - begin)) if found.names else [{}] * (end - begin)

    return _Slices(
        table.num_rows,
        rows,
        found.names,
        found.repeated,
    )


def _arrow_slice(table: Any) -> list[dict[str, object]]:
    """Rows of a table of Arrow as mappings."""
    from airflow_provider_lamini.rows.sources import arrow

    converters = {field.name: arrow.converter(field.type) for field in table.schema}
    special = {name: convert for name, convert in converters.items() if convert is not None}
    part = table.combine_chunks().to_batches()
    if not part:
        return []
    short = arrow.shortest_floats(arrow.decode_columns(part[0]))
    columns = [arrow.exact_moments(column).to_pylist() for column in short.columns]
    rows: list[dict[str, object]] = [
        dict(zip(short.schema.names, row, strict=True)) for row in zip(*columns, strict=True)
    ]
    for row in rows if special else ():
        row |= {
            name: None if row[name] is None else _converted(convert, row[name])
            for name, convert in special.items()
        }
    return rows


def _converted(convert: Callable[[Any], object], value: object) -> object:
    """A value as that of JSON; the value itself if that fails, so that its row is refused with the column's name."""
    try:
        return convert(value)
    except ValueError:
        return value


class _Columns(NamedTuple):
    """The columns of a table that rows can have.

    :param names: their names
    :param positions: their positions in the table
    :param repeated: names that several columns have, so that they are left out
    :param unnamed: names that are not texts, so that their columns are left out
    """

    names: list[str]
    positions: list[int]
    repeated: list[str]
    unnamed: list[object]


def _usable(names: Sequence[object]) -> _Columns:
    """Leave out columns that cannot be told apart, or whose names are not texts: perhaps nobody needs them.

    :raises ColumnError: if none is left
    """
    times = Counter(names)
    kept = [at for at, name in enumerate(names) if isinstance(name, str) and times[name] == 1]
    repeated = repeated_names([name for name in names if isinstance(name, str)])
    if names and not kept and not repeated:
        raise ColumnError("The input has no column whose name is a text. Rename the columns of the table.")
    unnamed = [name for name in names if not isinstance(name, str)]
    return _Columns([str(names[at]) for at in kept], kept, repeated, unnamed)


class _Slices(Sequence[object]):
    """The rows of a table, made in slices, because a table takes much less memory than its rows."""

    _SIZE = 1024

    def __init__(
        self,
        count: int,
        make: Callable[[int, int], Sequence[object]],
        columns: Sequence[str],
        repeated: Sequence[str] = (),
        unnamed: Sequence[object] = (),
    ) -> None:
        self._count = count
        self.make = make
        self.columns = columns
        self.repeated = repeated
        self.unnamed = unnamed

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> object: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[object]: ...

    def __getitem__(self, at: int | slice) -> object:
        if isinstance(at, slice):
            begin, end, _ = at.indices(self._count)
            return self._rows(begin, max(begin, end))
        index = range(self._count)[at]
        return self._rows(index, index + 1)[0]

    def __iter__(self) -> Iterator[object]:
        for begin in range(0, self._count, self._SIZE):
            yield from self._rows(begin, min(begin + self._SIZE, self._count))

    def _rows(self, begin: int, end: int) -> Sequence[object]:
        try:
            return self.make(begin, end)
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"The table has a value in rows {begin} to {end - 1} that Python does not have, such as a date after the year "
                "9999. Convert the column to text first, or leave it out."
            ) from error
