"""Texts in which nothing can be read: empty ones, white space, and invisible characters."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RANGES = (
    (0x0, 0x20),
    (0x7F, 0xA0),
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x115F, 0x1160),
    (0x1680, 0x1680),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""White space, control and format characters, those that Unicode calls ignorable by default, and the blank of Braille."""
_INVISIBLE = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))
_CLASS = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in _RANGES)
_BLANK = re.compile(f"[{_CLASS}]*")
_FIRST = itemgetter(0)


def is_blank(value: object) -> bool:
    """Whether a value is a text without any visible character, such as ``""``, a line end, or a zero-width space.

    :param value: any value
    """
    return isinstance(value, str) and _BLANK.fullmatch(value) is not None


def none_begins_with(characters: frozenset[str], values: Iterable[object]) -> bool:
    """Whether it is certain, from the first characters alone, that all values are texts and none begins with one of these.

    :param characters: the characters
    :param values: any values
    """
    try:
        return characters.isdisjoint(map(_FIRST, values))  # type: ignore[arg-type] # see below
    except (TypeError, LookupError):  # an empty text, or a value that is not a text
        return False


def all_visible(values: Iterable[object]) -> bool:
    """Whether it is certain, from the first characters alone, that no value is a blank text, an object or a list of objects.

    If it is not, look at each value (`is_blank`).

    :param values: any values
    """
    return none_begins_with(_INVISIBLE, values)


def any_blank(values: Sequence[object]) -> bool:
    """Whether any value is a blank text (`is_blank`). Other values do not count.

    :param values: any values
    """
    return not all_visible(values) and any(map(is_blank, values))
