"""What is in a column, over all rows of an input: files of typed columns need one type for all their parts."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Row

ColumnKind = Literal["text", "integer", "number", "flag", "json"]
"""``integer`` has 64 bits; ``json`` is for lists, mappings, and values of several kinds."""

_EXACT = 2**53
"""Up to here a double has every integer."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class _Large:
    """Stands for integers that a double cannot hold exactly."""


class _Huge:
    """Stands for integers that 64 bits cannot hold."""


def column_of(rows: Sequence[Row], column: str) -> list[Json]:
    """The values of a column; ``None`` where a row has none.

    :param rows: the rows
    :param column: its name
    """
    try:
        return list(map(itemgetter(column), rows))  # twice as fast as asking each row whether it has one
    except KeyError:
        return [row.get(column) for row in rows]


class ColumnKinds:
    """Looks at columns batch by batch.

    :param columns: the columns' names
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._seen: dict[str, set[type]] = {column: set() for column in columns}

    def look(self, rows: Sequence[Row]) -> None:
        """Take some rows into account."""
        for column, seen in self._seen.items():
            values = column_of(rows, column)
            kinds: set[type] = set(map(type, values))
            if int in kinds:
                integers = [value for value in values if type(value) is int]
                least, most = min(integers), max(integers)
                if least < -_EXACT or most > _EXACT:
                    kinds.add(_Large if least >= _SMALLEST and most <= _LARGEST else _Huge)
            seen.update(kinds)

    def found(self) -> dict[str, ColumnKind]:
        """What is in each column; ``text`` where there is nothing."""
        return {column: _kind(seen - {type(None)}) for column, seen in self._seen.items()}


def _kind(types: set[type]) -> ColumnKind:
    if types <= {str}:
        return "text"
    if types == {bool}:
        return "flag"
    if types <= {int, _Large}:
        return "integer"
    return "number" if types <= {int, float} else "json"
