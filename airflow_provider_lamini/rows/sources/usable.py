"""Rows of which some values cannot be used: only who needs such a value cannot use the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_lamini.rows.values import json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_MAX_DEPTH = 20
"""Levels of mappings below which a value is used as a whole or not at all."""


def split_usable(
    record: Mapping[str, object], mark: Callable[[str, str], object] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a row that JSON can represent, and what is wrong with the others.

    :param record: the columns, with valid text as their names
    :param mark: takes the name and the problem of a value that cannot be used, and returns what stands in its place;
        ``None`` leaves it out
    :return: the row, and the problems by column or dotted field
    """
    row: dict[str, Any] = {}
    problems: dict[str, str] = {}
    _split(record, "", row, problems, mark)
    return row, problems


def _split(
    value: Mapping[str, object],
    prefix: str,
    row: dict[str, Any],
    problems: dict[str, str],
    mark: Callable[[str, str], object] | None,
) -> None:
    for key, item in value.items():
        try:
            row[key] = json_value(item)
        except ValueError as error:
            name = f"{prefix}{key}"
            if has_fields(item) and prefix.count(".") < _MAX_DEPTH:
                row[key] = {}
                _split(item, f"{name}.", row[key], problems, mark)
                continue
            problems[name] = str(error)
            if mark is not None:
                row[key] = mark(name, str(error))


def has_fields(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a value is a mapping whose keys are valid names of columns or fields.

    :param value: any value
    """
    if not isinstance(value, Mapping):
        return False
    try:
        json_value(dict.fromkeys(value))
    except ValueError:
        return False
    return True


def first_needed(problems: Mapping[str, str], wanted: Collection[str] | None) -> str | None:
    """The first value that cannot be used and is needed.

    :param problems: what is wrong with columns and dotted fields
    :param wanted: the columns and fields that are needed; ``None`` for all
    :return: its name; ``None`` if there is none
    """
    return next(
        (
            name
            for name in problems
            if wanted is None
            or any(
                each == name or each.startswith(f"{name}.") or name.startswith(f"{each}.") for each in wanted
            )
        ),
        None,
    )
