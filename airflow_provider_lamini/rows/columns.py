"""What is in a column, over all rows of an input: files of typed columns need one type for all their parts."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from airflow_provider_lamini.rows.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Batch, Row

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


class ColumnKinds:
    """Looks at columns batch by batch.

    :param columns: the columns' names
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._seen: dict[str, set[type]] = {column: set() for column in columns}

    def look(self, batch: Batch) -> None:
        """Take some rows into account."""
        for column, seen in self._seen.items():
            seen.update(batch.kinds(column))

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
