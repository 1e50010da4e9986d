"""Columns that a file does not have as such: fields of objects, partition columns, and columns of newer files."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.batch import Batch
from airflow_provider_lamini.rows.columns import Table, column_of, kinds_of
from airflow_provider_lamini.rows.errors import MissingColumnError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Position
    from airflow_provider_lamini.rows.values import Row


@dataclass(frozen=True, slots=True)
class Projection:
    """How the columns that are asked for come from those of a file.

    :param names: the columns to read; ``None`` for all
    :param fields: columns that are fields of others: the column and the names below it
    :param constants: columns with the same value in each row
    :param absent: columns that the file does not have
    :param wanted: the columns that are asked for; ``None`` for all
    """

    names: tuple[str, ...] | None
    fields: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    constants: Mapping[str, Json] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    wanted: tuple[str, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the file has all columns itself."""
        return not (self.fields or self.constants or self.absent)

    def apply(self, batch: Batch) -> Batch:
        """Add the columns to some rows.

        :param batch: rows with the columns in `names`
        """
        return batch if self.is_plain else _ProjectedBatch(batch, self)


def project_declared(
    wanted: Collection[str] | None,
    declared: Sequence[str],
    *,
    partitions: Mapping[str, str | None],
    required: Collection[str],
    name: str,
) -> Projection:
    """The projection for a file that declares its columns.

    A column of the file itself comes first, then a partition column, then a field of an object. If there is none of these,
    the column is null in all rows, because a newer file may have it.

    :param wanted: the columns that are asked for; ``None`` for all
    :param declared: the columns of the file
    :param partitions: the partition columns of the file
    :param required: columns without which the file cannot be used
    :param name: name of the file, for messages
    :raises MissingColumnError: if there is no such column
    """
    if wanted is None:
        return Projection(
            None, constants={key: value for key, value in partitions.items() if key not in declared}
        )
    names = {column: None for column in wanted if column in declared}
    fields: dict[str, tuple[str, tuple[str, ...]]] = {}
    constants: dict[str, Json] = {}
    absent = set()
    for column in wanted:
        if column in names:
            continue
        if column in partitions:
            constants[column] = partitions[column]
        elif (found := _field(column, declared)) is not None:
            fields[column] = found
        elif column in required:
            raise MissingColumnError.of(name, column, (*declared, *partitions))
        else:
            absent.add(column)
    names |= dict.fromkeys(head for head, _ in fields.values())
    return Projection(tuple(names), fields, constants, frozenset(absent), tuple(wanted))


def project_open(wanted: Collection[str] | None, partitions: Mapping[str, str | None]) -> Projection:
    """The projection for a file in which each row names its own columns.

    :param wanted: the columns that are asked for; ``None`` for all
    :param partitions: the partition columns of the file
    """
    if wanted is None:
        return Projection(None, constants=dict(partitions))
    fields = {}
    names = dict.fromkeys(wanted)
    for column in wanted:
        if "." in column and column not in partitions:
            heads = list(_heads(column))
            fields[column] = (heads[-1], ())
            names |= dict.fromkeys(heads)
    constants = {column: partitions[column] for column in wanted if column in partitions}
    return Projection(tuple(names), fields, constants, frozenset(), tuple(wanted))


def field_value(row: Mapping[str, Json], column: str) -> Json:
    """The value of a column of a row, which may be a field of an object: ``user.name``.

    A column with exactly this name comes first, then the longest column that the name begins with.

    :param row: the row
    :param column: the column
    """
    return field_values(row, column)[-1]


def field_values(row: Mapping[str, Json], column: str) -> list[Json]:
    """The values on the way to that of a column of a row (`field_value`), which is the last one.

    :param row: the row
    :param column: the column
    """
    if column in row:
        return [row[column]]
    found = _field(column, row)
    if found is None:
        return [None]
    head, path = row[found[0]], found[1]
    return [head, *(_below(head, path[:count]) for count in range(1, len(path) + 1))]


def _heads(column: str) -> Iterable[str]:
    """The beginnings of a dotted name that may be columns, the longest first."""
    parts = column.split(".")
    return (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))


def _field(column: str, columns: Collection[str]) -> tuple[str, tuple[str, ...]] | None:
    """The column and the path below it that a dotted name stands for."""
    head = next((head for head in _heads(column) if head in columns), None)
    return None if head is None else (head, tuple(column[len(head) + 1 :].split(".")))


def _below(value: Json, path: Sequence[str]) -> Json:
    """The value at a path below a value; a key with a dot in it is found as well."""
    if not path:
        return value
    if not isinstance(value, dict):
        return None
    for count in range(len(path), 0, -1):
        key = ".".join(path[:count])
        if key in value:
            return _below(value[key], path[count:])
    return None


class _ProjectedBatch(Batch):
    """Rows with columns that the file does not have as such."""

    def __init__(self, inner: Batch, projection: Projection) -> None:
        super().__init__((), inner.start)
        self._inner = inner
        self._projection = projection
        self.bad = inner.bad

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        rows, projection = self._inner.rows, self._projection
        if isinstance(rows, Table):
            return self._table(rows)
        wanted = projection.wanted
        for row in rows:
            for column in projection.fields:
                if column not in row and (value := field_value(row, column)) is not None:
                    row[column] = value
            for column, constant in projection.constants.items():
                row.setdefault(column, constant)
            if wanted is not None and len(row) > len(wanted):
                for column in set(row).difference(wanted):
                    del row[column]
        return rows

    def _table(self, rows: Table) -> Table:
        count, projection = len(rows), self._projection
        columns: dict[str, Sequence[Json]] = dict(rows.columns)
        for column, (head, path) in projection.fields.items():
            columns[column] = [_below(value, path) for value in rows.columns[head]]
        for column, constant in projection.constants.items():
            columns.setdefault(column, [constant] * count)
        columns |= {column: [None] * count for column in projection.absent}
        wanted = columns if projection.wanted is None else projection.wanted
        return Table({column: columns[column] for column in wanted}, count)

    def __len__(self) -> int:
        return len(self._inner)

    def check(self) -> None:
        self._inner.check()

    def has_blank(self, column: str) -> bool:
        return super().has_blank(column) if self._is_derived(column) else self._inner.has_blank(column)

    def has_conversation(self, column: str) -> bool:
        if self._is_derived(column):
            return super().has_conversation(column)
        return self._inner.has_conversation(column)

    def characters(self, column: str) -> int:
        return super().characters(column) if self._is_derived(column) else self._inner.characters(column)

    def first_missing(self, column: str) -> int | None:
        return (
            super().first_missing(column) if self._is_derived(column) else self._inner.first_missing(column)
        )

    def has(self, column: str) -> bool:
        if not self._is_derived(column):
            return self._inner.has(column)
        if column in self._projection.absent:
            return False
        return column in self._projection.constants or any(
            value is not None for value in column_of(self.rows, column)
        )

    def kinds(self, column: str) -> set[type]:
        return (
            kinds_of(column_of(self.rows, column)) if self._is_derived(column) else self._inner.kinds(column)
        )

    def after(self, count: int) -> Position:
        return self._inner.after(count)

    def location(self, offset: int) -> str:
        return self._inner.location(offset)

    def _is_derived(self, column: str) -> bool:
        projection = self._projection
        return column in projection.fields or column in projection.constants or column in projection.absent
