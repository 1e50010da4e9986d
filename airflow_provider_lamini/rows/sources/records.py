"""What counts as a row in a list: texts, mappings, records of databases; and lists of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

import msgspec

from airflow_provider_lamini.rows.columns import PROMPT
from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.sources.tables import (
    is_row_of_frame,
    is_sliced,
    is_table,
    join_tables,
    table_rows,
)
from airflow_provider_lamini.rows.values import kind
from airflow_provider_lamini.wording import counted

_DESCRIPTION_LENGTH = 7
"""The number of values with which a database cursor describes a column."""


def as_mapping(item: object, columns: Sequence[str] | None) -> object:
    """A row as a mapping of columns to values, if it is one of the known kinds of record; else the item itself.

    :param item: an item of a list
    :param columns: names for the values of sequences; ``None`` if they are not known
    :raises ValueError: if a sequence has no names, or another number of values
    """
    if isinstance(item, str):
        return {columns[0]: item} if columns and len(columns) == 1 else item
    if isinstance(item, Mapping):
        return item
    if columns is None and (named := _own_mapping(item)) is not None:
        return named
    return _named(cast("Sequence[object]", item), columns) if is_record(item) else item


def _own_mapping(item: Any) -> Mapping[str, object] | None:
    """A record that knows its columns as a mapping; ``None`` for anything else."""
    kind_of_item = type(item)
    if (names := _own_names(item)) is not None:
        return dict(zip(names, item, strict=True))
    if hasattr(item, "_mapping"):  # SQLAlchemy
        return dict(item._mapping)  # noqa: SLF001 - it is public
    if is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in fields(item)}
    if hasattr(kind_of_item, "model_dump"):  # pydantic
        return cast("Mapping[str, object]", item.model_dump())
    if hasattr(kind_of_item, "keys") and hasattr(kind_of_item, "__getitem__"):  # sqlite3.Row, asyncpg.Record
        return {key: item[key] for key in item.keys()}  # noqa: SIM118 - iterating it gives the values
    return None


def is_row_as_text(text: str) -> bool:
    """Whether a text is the JSON of an object with the column ``prompt``: a row that somebody has encoded once too often.

    :param text: a text that would be a prompt as it is
    """
    if not text.lstrip().startswith("{"):
        return False
    try:
        return PROMPT in msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False


ROW_AS_TEXT = "is the JSON text of a row with the column 'prompt'. Decode it, or pass [{'prompt': ...}] to send it as it is"
"""What is wrong with such a text."""


def is_record(item: object) -> bool:
    """Whether an item is a sequence of values, such as a row of a database."""
    is_sequence = isinstance(item, Sequence) or hasattr(
        item, "_mapping"
    )  # SQLAlchemy's row is not always one
    return is_sequence and not isinstance(item, (str, bytes, bytearray, memoryview))


def flatten(
    items: Sequence[object], columns: Sequence[str] | None
) -> tuple[Sequence[object], Sequence[str] | None, str]:
    """Join the rows of pages, such as the results of mapped tasks, and find the names that a cursor has given to columns.

    :param items: the items of a list
    :param columns: names for the values of sequences, as the user has given them
    :return: the rows, the names of their columns, and a remark for the log
    :raises InputError: if it is not certain whether the items are pages or rows
    """
    if is_sliced(items):  # rows of a table are mappings, and not converted for this
        return items, columns, ""
    described = _described(items)
    if described is not None:
        described_names, rows = described
        return (
            rows,
            columns or described_names,
            f"named the columns as the cursor does: {', '.join(described_names)}",
        )
    pages = list(map(_is_page, items))
    _check_missing_pages(items, pages, columns)
    if not items or not all(pages):
        return items, columns, ""
    if all(map(_may_be_row, items)):
        if columns is not None:
            return items, columns, ""
        _check_unambiguous(items)
    found: list[Sequence[object]] = []
    for page in items:
        page_rows, page_names = _rows_of_page(page)
        if columns is not None and page_names not in (None, list(columns)):
            raise InputError(
                "The input is a list of results with different columns. Pass one of them, or rows as mappings."
            )
        columns = columns or page_names
        found.append(page_rows)
    return _joined(found), columns, f"joined {counted(len(items), 'list')} of rows"


def _joined(pages: Sequence[Sequence[object]]) -> Sequence[object]:
    """The rows of all pages. Those of tables are not made before they are read."""
    pages = [page for page in pages if len(page)]
    tables = [page for page in pages if is_sliced(page)]
    if tables and len(tables) == len(pages):
        return join_tables(tables)
    return [row for page in pages for row in page]


def _rows_of_page(page: Any) -> tuple[Sequence[object], list[str] | None]:
    if is_table(page):
        return table_rows(page), None
    described = _described(page)
    return (page, None) if described is None else (described[1], described[0])


def _is_page(item: object) -> bool:
    """Whether an item of a list may be a list of rows."""
    if is_table(item):
        return not is_row_of_frame(item)
    if _described(item) is not None:
        return True
    return isinstance(item, list) and all(
        isinstance(row, (str, Mapping))
        or _own_names(row) is not None
        or is_record(row)
        or hasattr(row, "_mapping")
        or (is_table(row) and is_row_of_frame(row))
        for row in item
    )


def _check_missing_pages(
    items: Sequence[object], pages: Sequence[bool], columns: Sequence[str] | None
) -> None:
    """A list without a value among pages, such as the result of a task that was skipped, is not a row without a value.

    :raises InputError: if some items are missing, and all others are pages
    """
    missing = [number for number, item in enumerate(items) if item is None]
    if columns is None and missing and any(pages) and len(missing) + sum(pages) == len(items):
        raise InputError(
            f"The input is a list of {len(items)} lists of rows, of which {len(missing)} are None, such as item {missing[0]}. "
            "Leave these out: [page for page in pages if page is not None]."
        )


def _may_be_row(item: object) -> bool:
    """Whether a list may also be one row: of texts that could be its values."""
    return isinstance(item, list) and bool(item) and all(isinstance(value, str) for value in item)


def _check_unambiguous(items: Sequence[object]) -> None:
    """Lists of texts of the same length are pages of prompts, or rows of a database whose client returns lists.

    :raises InputError: if they may be rows, because each value would be sent as a prompt
    """
    # Airflow gives the results of mapped tasks as a sequence of its own: then the items are certainly pages.
    lengths = {len(item) for item in items if isinstance(item, list)}
    if isinstance(items, (list, tuple)) and len(items) > 1 and len(lengths) == 1 and lengths != {1}:
        raise InputError(
            f"The input is a list of {len(items)} lists with {counted(lengths.pop(), 'text')} each. If these are rows, "
            "name their columns: columns=['id', 'text']. If they are pages of prompts, join them to one list."
        )


def _described(value: object) -> tuple[list[str], Sequence[object]] | None:
    """The names and rows of a pair of a cursor's description and its rows; ``None`` for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:  # noqa: PLR2004 - a pair
        return None
    description, rows = value
    if not (is_record(description) and isinstance(rows, list) and description):
        return None
    names = [
        column[0]
        for column in description
        if is_record(column) and len(column) == _DESCRIPTION_LENGTH and isinstance(column[0], str)
    ]
    if len(names) != len(description):
        return None
    return (names, rows) if all(is_record(row) and len(row) == len(names) for row in rows) else None


def _own_names(record: object) -> Sequence[str] | None:
    """The names of the fields of a named tuple, or of a row of Spark."""
    names = getattr(record, "_fields", None) or getattr(record, "__fields__", None)
    return names if isinstance(record, tuple) and isinstance(names, (tuple, list)) else None


def _named(values: Sequence[object], columns: Sequence[str] | None) -> dict[str, object]:
    if columns is None and len(values) == 1 and not isinstance(values, list):
        return dict(values[0]) if isinstance(values[0], Mapping) else {PROMPT: values[0]}
    if columns is None:
        raise ValueError(
            f"is {kind(values)}, with {counted(len(values), 'value')}: name them with columns=['id', 'text']"
        )
    if len(values) != len(columns):
        raise ValueError(
            f"has {counted(len(values), 'value')}, but columns has {counted(len(columns), 'name')}"
        )
    return dict(zip(columns, values, strict=True))
