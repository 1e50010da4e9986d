"""Rows in the arguments of the task: a list of texts or mappings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.batch import Batch, Cursor, bad_row
from airflow_provider_lamini.rows.sources.records import PROMPT, as_mapping
from airflow_provider_lamini.rows.sources.usable import first_needed, has_fields, split_usable
from airflow_provider_lamini.rows.values import Row, json_value, kind
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.failures import RowFailure

_BATCH_SIZE = 1024


class _ListBatch(Batch):
    """Rows of a list."""

    def after(self, count: int) -> Cursor:
        return Cursor(self.start.row + count)

    def location(self, offset: int) -> str:
        return f"item {self.start.row + offset} of the list"


class ListRows(NamedTuple):
    """The rows of a list.

    :param rows: the rows, without the values that cannot be used
    :param bad: items that cannot be used, by number; their rows are empty
    :param unusable: what is wrong with columns and fields of other items, by number; only who needs one cannot use the row
    :param owner: what the items belong to, for errors
    """

    rows: list[Row]
    bad: dict[int, RowFailure]
    unusable: dict[int, dict[str, str]]
    owner: str = "the list"

    def bad_among(self, first: int, count: int, wanted: Collection[str] | None) -> dict[int, RowFailure]:
        """The rows that cannot be used, by their offset to the first one.

        :param first: number of the first row
        :param count: number of rows
        :param wanted: the columns that are needed; ``None`` for all
        """
        found = {}
        for number in range(first, first + count) if self.bad or self.unusable else ():
            failure = self.bad.get(number) or self._unusable(number, wanted)
            if failure is not None:
                found[number - first] = failure
        return found

    def unusable_columns(self) -> Iterator[str]:
        """The columns of which some rows lack the whole value."""
        for number, problems in self.unusable.items():
            for name in problems:
                if not any(name.startswith(f"{column}.") for column in self.rows[number]):
                    yield name

    def _unusable(self, number: int, wanted: Collection[str] | None) -> RowFailure | None:
        """What is wrong with the first column or field of a row that is needed."""
        problems = self.unusable.get(number, {})
        name = first_needed(problems, wanted)
        if name is None:
            return None
        return bad_row(BadRowError(f"row {number} of {self.owner}: column {name!r} {problems[name]}."))


def check_rows(
    items: Iterable[object], *, columns: Sequence[str] | None = None, keep_bad: bool = False
) -> ListRows:
    """Convert the items of a list to rows.

    :param items: texts, each a row with the column ``prompt``, mappings of column to value, or records. A number counts as the
        text that it was before a template was rendered to native objects.
    :param columns: names for the values of rows that are sequences
    :param keep_bad: keep items that are no rows instead of raising an error
    :raises BadRowError: for the first item that is neither
    """
    found = ListRows([], {}, {})
    for number, item in enumerate(items):
        try:
            found.rows.append(as_row(item, number, columns))
        except BadRowError as error:
            part = usable_part(item, columns)
            if part is None and not keep_bad:
                raise
            if part is None:
                found.bad[number], part = bad_row(error), ({}, {})
            found.rows.append(part[0])
            found.unusable[number] = part[1]
    return found


def usable_part(
    item: object, columns: Sequence[str] | None, mark: Callable[[str, str], object] | None = None
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The values of an item that can be used, and what is wrong with the others (`split_usable`).

    :param item: an item that is no row as it is
    :param columns: names for the values of an item that is a sequence
    :param mark: as for `split_usable`
    :return: ``None`` if it is none of columns
    """
    try:
        item = as_mapping(item, columns)
    except ValueError:
        return None
    return split_usable(item, mark) if has_fields(item) else None


def read_batches(
    found: ListRows, start: Cursor, wanted: Collection[str] | None, *, keep_bad: bool, copies: bool = False
) -> Iterator[Batch]:
    """Read a list from a position.

    :param found: the whole list
    :param start: the position
    :param wanted: the columns that are needed; ``None`` for all
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param copies: whether the caller changes the rows
    :raises BadRowError: for the first row of which a column that is needed cannot be used
    :raises InputError: if the list is shorter
    """
    rows = found.rows
    if start.row > len(rows):
        raise InputError(
            f"The list has {counted(len(rows), 'row')}, but the task should continue after row {start.row}."
        )
    rest = islice(rows, start.row, None)
    row = start.row
    while batch := list(islice(rest, _BATCH_SIZE)):
        bad = found.bad_among(row, len(batch), wanted)
        if bad and not keep_bad:
            raise BadRowError(bad[min(bad)].text)
        yield _ListBatch(list(map(dict, batch)) if copies else batch, Cursor(row), bad=bad)
        row += len(batch)


def as_row(item: object, number: int, columns: Sequence[str] | None, owner: str = "the list") -> Row:
    """Convert one item to a row.

    :param item: a text, a mapping of column to value, or a record
    :param number: its number, for the error
    :param columns: names for the values of a row that is a sequence
    :param owner: what the item belongs to, for the error
    :raises BadRowError: if it is neither, or contains a value that JSON cannot represent
    """
    try:
        item = as_mapping(item, columns)
        value = json_value(item)
    except ValueError as error:
        raise BadRowError(f"row {number} of {owner}: {_failing_column(item)}{error}.") from None
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {PROMPT: value}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {PROMPT: str(value)}
    raise BadRowError(f"row {number} of {owner} is {kind(item)}: a text or a mapping of columns is expected.")


def _failing_column(item: object) -> str:
    """The first column of a mapping that cannot be used, for the error message."""
    if not isinstance(item, Mapping):
        return "it "
    for column, value in item.items():
        if not isinstance(column, str):
            return "it "
        try:
            json_value(value)
        except ValueError:
            return f"column {column!r} "
    return "it "
