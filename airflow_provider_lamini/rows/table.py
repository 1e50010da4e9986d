"""Rows that are held by columns, as formats of columns have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Row


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
