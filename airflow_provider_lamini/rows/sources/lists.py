"""Rows in the arguments of the task: a list of texts or mappings."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_lamini.rows.batch import Batch, Position, bad_row
from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.records import ROW_AS_TEXT, as_mapping, is_row_as_text
from airflow_provider_lamini.rows.sources.tables import is_sliced
from airflow_provider_lamini.rows.values import Row, first_needed, has_fields, json_value, kind, split_usable
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.failures import RowFailure

_BATCH_SIZE = 1024


class _ListBatch(Batch):
    """Rows of a list."""

    def after(self, count: int) -> Position:
        return Position(self.start.row + count)

    def location(self, offset: int) -> str:
        return f"item {self.start.row + offset} of the list"


class ListRows(NamedTuple):
    """Consecutive rows of a list.

    :param rows: the rows, without the values that cannot be used
    :param bad: items that cannot be used, by number; their rows are empty
    :param unusable: what is wrong with columns and fields of other items, by number; only who needs one cannot use the row
    :param unnamed: keys of mappings that are not texts, so that their values are left out
    :param owner: what the items belong to, for errors
    :param first: number of the first row
    """

    rows: list[Row]
    bad: dict[int, RowFailure]
    unusable: dict[int, dict[str, str]]
    unnamed: dict[object, None]
    owner: str = "the list"
    first: int = 0

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
                if not any(name.startswith(f"{column}.") for column in self.rows[number - self.first]):
                    yield name

    def _unusable(self, number: int, wanted: Collection[str] | None) -> RowFailure | None:
        """What is wrong with the first column or field of a row that is needed."""
        problems = self.unusable.get(number, {})
        name = first_needed(problems, wanted)
        if name is None:
            return None
        return bad_row(BadRowError(f"row {number} of {self.owner}: column {name!r} {problems[name]}."))


def check_rows(
    items: Iterable[object], *, columns: Sequence[str] | None = None, keep_bad: bool = False, first: int = 0
) -> ListRows:
    """Convert the items of a list to rows.

    :param items: texts, each a row with the column ``prompt``, mappings of column to value, or records. A number counts as the
        text that it was before a template was rendered to native objects.
    :param columns: names for the values of rows that are sequences
    :param keep_bad: keep items that are not rows instead of raising an error
    :param first: number of the first item
    :raises BadRowError: for the first item that is neither
    """
    found = ListRows([], {}, {}, {}, first=first)
    for number, item in enumerate(items, first):
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
            found.unnamed.update(dict.fromkeys(_unnamed(item)))
    return found


def usable_part(
    item: object, columns: Sequence[str] | None, mark: Callable[[str, str], object] | None = None
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The values of an item that can be used, and what is wrong with the others (`split_usable`).

    :param item: an item that is not a row as it is
    :param columns: names for the values of an item that is a sequence
    :param mark: as for `split_usable`
    :return: ``None`` if it is none of columns
    """
    try:
        item = as_mapping(item, columns)
    except ValueError:
        return None
    if isinstance(item, Mapping):
        item = {key: value for key, value in item.items() if isinstance(key, str)} or item
    return split_usable(item, mark) if has_fields(item) else None


def _unnamed(item: object) -> list[object]:
    """The keys of a mapping that are not texts, such as that of the surplus values of ``csv.DictReader``."""
    return [key for key in item if not isinstance(key, str)] if isinstance(item, Mapping) else []


class CheckedList:
    """The rows of a list, which are checked at once; or those of a table, which are made and checked as they are read.

    :param items: the items of the list, or the table's rows
    :param columns: names for the values of rows that are sequences
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :raises BadRowError: for the first item of a list that is not a row
    """

    def __init__(self, items: Sequence[object], columns: Sequence[str] | None, *, keep_bad: bool) -> None:
        self._items = items
        self._names = columns
        self._keep_bad = keep_bad
        self._found = None if is_sliced(items) else check_rows(items, columns=columns, keep_bad=keep_bad)

    def __len__(self) -> int:
        return len(self._items)

    def pages(self, first: int = 0, size: int = _BATCH_SIZE) -> Iterator[ListRows]:
        """The rows from a position, a page at a time.

        :param first: number of the first row
        :param size: maximum number of rows in a page
        """
        for begin in range(first, len(self), size):
            end = min(begin + size, len(self))
            if self._found is None:
                yield check_rows(
                    self._items[begin:end], columns=self._names, keep_bad=self._keep_bad, first=begin
                )
            else:
                yield self._found._replace(rows=self._found.rows[begin:end], first=begin)

    @property
    def unnamed(self) -> Iterable[object]:
        """Names of columns that are left out because they are not texts."""
        if self._found is not None:
            return self._found.unnamed
        return self._items.unnamed if is_sliced(self._items) else ()

    def columns(self) -> Iterator[str]:
        """The columns of all rows, some of them several times."""
        if is_sliced(self._items):
            yield from self._items.columns if len(self) else ()
            return
        for page in self.pages(size=max(1, len(self))):
            yield from (column for row in page.rows for column in row)
            yield from page.unusable_columns()

    def batches(
        self, start: Position, wanted: Collection[str] | None, *, copies: bool = False
    ) -> Iterator[Batch]:
        """Read from a position.

        :param start: the position
        :param wanted: the columns that are needed; ``None`` for all
        :param copies: whether the caller changes the rows
        :raises BadRowError: for the first row of which a column that is needed cannot be used, unless bad rows are kept
        :raises InputError: if the list is shorter
        """
        if start.row > len(self):
            raise InputError(
                f"The list has {counted(len(self), 'row')}, but the task should continue after row {start.row}."
            )
        for page in self.pages(start.row):
            bad = page.bad_among(page.first, len(page.rows), wanted)
            if bad and not self._keep_bad:
                raise BadRowError(bad[min(bad)].text)
            yield _ListBatch(
                list(map(dict, page.rows)) if copies else page.rows, Position(page.first), bad=bad
            )


def as_row(item: object, number: int, columns: Sequence[str] | None, owner: str = "the list") -> Row:
    """Convert one item to a row.

    :param item: a text, a mapping of column to value, or a record; a missing value, or NaN, is a row without a value
    :param number: its number, for the error
    :param columns: names for the values of a row that is a sequence
    :param owner: what the item belongs to, for the error
    :raises BadRowError: if it is neither, or contains a value that JSON cannot represent
    """
    try:
        item = as_mapping(item, columns)
        value = json_value(item)
    except ValueError as error:
        if isinstance(item, Real) and item != item:  # noqa: PLR0124 - NaN
            return dict.fromkeys(columns or (PROMPT,))
        raise BadRowError(f"row {number} of {owner}: {_failing_column(item)}{error}.") from None
    if value is None:
        return dict.fromkeys(columns or (PROMPT,))
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        if is_row_as_text(value):
            raise BadRowError(f"row {number} of {owner} {ROW_AS_TEXT}.")
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
