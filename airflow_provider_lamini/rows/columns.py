"""Rows by column, and the types of the values in a column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, overload

from airflow_provider_lamini.rows.formats import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.values import Row

PROMPT = "prompt"
"""The column of a row that is a plain text."""

ColumnKind = Literal["text", "integer", "number", "flag", "json"]
"""Type of a whole column. ``integer`` has 64 bits; ``json`` stands for lists, mappings and values of several types."""

KIND_KEY = f"{PACKAGE}.kind".encode()
"""Metadata of a Parquet column that contains JSON text."""

_MAX_EXACT = 2**53
"""A double represents every integer up to this one exactly."""
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


class _Large:
    """Stands for integers that a double cannot represent exactly."""


class _Huge:
    """Stands for integers with more than 64 bits."""


class Table(Sequence["Row"]):
    """Rows stored by column. Creating a dictionary for each row would cost more than everything else.

    :param columns: the values of each column, by its name
    :param count: number of rows
    """

    def __init__(self, columns: Mapping[str, Sequence[Json]], count: int) -> None:
        self.columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Self: ...

    def __getitem__(self, at: int | slice) -> Row | Self:
        indices = range(self._count)
        if isinstance(at, int):
            return {name: values[indices[at]] for name, values in self.columns.items()}
        return type(self)({name: values[at] for name, values in self.columns.items()}, len(indices[at]))

    def __iter__(self) -> Iterator[Row]:
        if not self.columns:
            return ({} for _ in range(self._count))
        names, rows = list(self.columns), zip(*self.columns.values(), strict=True)
        return (dict(zip(names, values, strict=True)) for values in rows)


def concatenate(pieces: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """Concatenate rows; the result is a `Table` if all pieces are.

    :param pieces: the rows, all with the same columns
    """
    if len(pieces) == 1:
        return pieces[0]
    tables = [piece for piece in pieces if isinstance(piece, Table)]
    if not tables or len(tables) < len(pieces):
        return list(chain.from_iterable(pieces))
    columns: dict[str, Sequence[Json]] = {}
    for name in tables[0].columns:
        columns[name] = list(chain.from_iterable(table.columns[name] for table in tables))
    return Table(columns, sum(map(len, tables)))


def column_of(rows: Sequence[Row], column: str) -> Sequence[Json]:
    """The values of a column; ``None`` for rows without one.

    :param rows: the rows
    :param column: name of the column
    """
    if isinstance(rows, Table):
        return rows.columns[column] if column in rows.columns else [None] * len(rows)
    try:
        return list(map(itemgetter(column), rows))  # twice as fast as a check for each row
    except KeyError:
        return [row.get(column) for row in rows]


def kinds_of(values: Sequence[Json]) -> set[type]:
    """The types of values, where large integers count as types of their own, for `column_kind`.

    :param values: the values
    """
    kinds: set[type] = set(map(type, values))
    if int in kinds:
        integers = [value for value in values if type(value) is int]
        kinds |= kinds_of_integers(min(integers), max(integers))
    return kinds


def kinds_of_integers(minimum: int, maximum: int) -> set[type]:
    """The same for integers whose range is known.

    :param minimum: the smallest integer
    :param maximum: the largest integer
    """
    if minimum >= -_MAX_EXACT and maximum <= _MAX_EXACT:
        return {int}
    return {int, _Large if minimum >= _MIN_INT64 and maximum <= _MAX_INT64 else _Huge}


def column_kind(types: set[type]) -> ColumnKind:
    """The type of a column that can represent all its values exactly.

    :param types: the types of its values, from `kinds_of`
    """
    types = types - {type(None)}
    if types <= {str}:
        return "text"
    if types == {bool}:
        return "flag"
    if types <= {int, _Large}:
        return "integer"
    return "number" if types <= {int, float} else "json"
