"""Rows that a function of a Dag makes: a list, a table, or a generator of any length."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.sources.jsonl import unusable_value
from airflow_provider_lamini.rows.sources.lists import as_row, usable_part
from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput, encode_rows
from airflow_provider_lamini.rows.sources.records import flatten
from airflow_provider_lamini.rows.sources.tables import is_table, table_rows
from airflow_provider_lamini.rows.values import is_path_object
from airflow_provider_lamini.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_ROWS = 1000


class FunctionInput(ReadOnceInput):
    """What a function returns, as input: prompts or rows. It is data: no text in it is a path or a template.

    :param name: the function's name, for messages
    :param function: makes the rows
    :param columns: names for the values of rows that are sequences; ``None`` if they need none
    :param inline: whether a single text is taken as the only row, because the answer is not written to a folder
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], object],
        *,
        columns: Sequence[str] | None = None,
        inline: bool = False,
    ) -> None:
        self._name = name
        self._function = function
        self._columns = columns
        self._inline = inline
        self.single = False
        """Whether the function returned a single text. It is known once the rows are read."""

    @property
    def fingerprint(self) -> str:
        """Only the name: what the function made at first counts, although its code or arguments change meanwhile."""
        return digest({"function": self._name})

    def read_lines(self, *, keep_bad: bool) -> Generator[bytes, None, None]:
        items, columns = self._items()
        blocks = iter(lambda: list(islice(items, BLOCK_ROWS)), [])
        return encode_rows(blocks, lambda item, number: self._row(item, number, columns), keep_bad=keep_bad)

    def first_rows(self, maximum: int, *, keep_bad: bool) -> list[object]:
        items, columns = self._items()
        rows: list[object] = []
        for number, item in enumerate(islice(items, maximum)):
            try:
                rows.append(as_row(_plain(item), number, columns, self._owner))
            except BadRowError:
                if not keep_bad and usable_part(item, columns) is None:
                    raise
                rows.append(item)
        return rows

    def __str__(self) -> str:
        return f"the rows of the function {self._name}"

    @property
    def _owner(self) -> str:
        return f"the function {self._name}"

    def _items(self) -> tuple[Iterator[object], Sequence[str] | None]:
        """Call the function."""
        value = self._function()
        if self._inline and isinstance(value, str):
            self.single = True
            value = [value]
        if is_table(value):
            value = table_rows(value)
        if isinstance(value, str) or is_path_object(value):
            raise InputError(
                f"The function {self._name} returned a text. Return a list of prompts or rows. To read files, pass their path "
                "as input of the operator instead."
            )
        if isinstance(value, (bytes, bytearray, memoryview, Mapping)) or not isinstance(value, Iterable):
            raise InputError(
                f"The function {self._name} returned {a_type(value)}. Return a list of prompts or rows, or yield them."
            )
        if not isinstance(value, Sequence):
            return _without_tables(value), self._columns
        items, columns, _ = flatten(value, self._columns)
        return iter(items), columns

    def _row(self, item: object, number: int, columns: Sequence[str] | None) -> dict[str, Any]:
        """A row in which a value that JSON cannot represent only matters to those who need its column."""
        try:
            return as_row(_plain(item), number, columns, self._owner)
        except BadRowError:

            def mark(column: str, problem: str) -> object:
                return unusable_value(f"row {number} of {self._owner}: column {column!r} {problem}.")

            part = usable_part(item, columns, mark)
            if part is None:
                raise
            return part[0]


def _without_tables(items: Iterable[object]) -> Iterator[object]:
    """Items that a function yields one by one; each table among them as its rows."""
    for item in items:
        if is_table(item):
            yield from table_rows(item)
        else:
            yield item


def _plain(item: object) -> object:
    """An item as it is, but a path as the text of a prompt."""
    return {PROMPT: str(item)} if is_path_object(item) else item
