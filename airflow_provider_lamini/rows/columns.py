"""What is in a column, over all rows of an input: files of typed columns need one type for all their parts."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.values import Row


from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.values import Row

ColumnKind = Literal["text", "integer", "number", "flag", "json"]
"""``integer`` has 64 bits; ``json`` is for lists, mappings, and values of several kinds."""

_EXACT = 2**53
"""Up to here a double has every integer."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class _Large:
    """Stands for integers that a double cannot hold exactly."""


class _Huge:
    """Stands for integers that 64 bits cannot hold."""


def column_of(rows: Sequence[Row], column: str) -> Sequence[Json]:
    """The values of a column; ``None`` where a row has none.

    :param rows: the rows
    :param column: its name
    """
    if isinstance(rows, Table):
        return rows.columns[column] if column in rows.columns else [None] * len(rows)
    try:
        return list(map(itemgetter(column), rows))  # twice as fast as asking each row whether it has one
    except KeyError:
        return [row.get(column) for row in rows]


def kinds_of(values: Sequence[Json]) -> set[type]:
    """The types of some values, and whether there are integers among them that not every type of numbers can hold.

    :param values: the values
    """
    kinds: set[type] = set(map(type, values))
    if int in kinds:
        integers = [value for value in values if type(value) is int]
        kinds |= kinds_of_integers(min(integers), max(integers))
    return kinds


def kinds_of_integers(least: int, most: int) -> set[type]:
    """The same for integers of which the smallest and the largest are known.

    :param least: the smallest
    :param most: the largest
    """
    if least >= -_EXACT and most <= _EXACT:
        return {int}
    return {int, _Large if least >= _SMALLEST and most <= _LARGEST else _Huge}


class Table(Sequence["Row"]):
    """Rows by columns: to make a dictionary of each costs more than all else that is done with them.

    :param columns: the values of each column, by its name
    :param count: how many rows there are
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
        numbers = range(self._count)
        if isinstance(at, int):
            return {name: values[numbers[at]] for name, values in self.columns.items()}
        return type(self)({name: values[at] for name, values in self.columns.items()}, len(numbers[at]))

    def __iter__(self) -> Iterator[Row]:
        if not self.columns:
            return ({} for _ in range(self._count))
        names, rows = list(self.columns), zip(*self.columns.values(), strict=True)
        return (dict(zip(names, values, strict=True)) for values in rows)


def joined(pieces: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """Rows that come one after the other; by columns, where all of them are.

    :param pieces: the rows, with the same columns each
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
