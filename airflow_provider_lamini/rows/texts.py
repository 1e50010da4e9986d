"""What is in a text: something to read, nothing visible, or a conversation."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_lamini.api.call import Json

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
_JSON_START = frozenset("[{ \t\r\n")
_WORDS = ("role", "from")
_AS_PYTHON = re.compile(r"\s*\[\s*\{\s*'(?:role|content|from|value)'\s*:.*\}\s*\]\s*\Z", re.DOTALL)
"""A conversation as Python writes it, and pandas to a CSV file."""


def is_blank(value: object) -> bool:
    """Whether a value is a text without any visible character, such as ``""``, a line end, or a zero-width space.

    :param value: any value
    """
    return isinstance(value, str) and _BLANK.fullmatch(value) is not None


def _none_begins_with(characters: frozenset[str], values: Iterable[object]) -> bool:
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
    return _none_begins_with(_INVISIBLE, values)


def any_blank(values: Sequence[object]) -> bool:
    """Whether any value is a blank text (`is_blank`). Other values do not count.

    :param values: any values
    """
    return not all_visible(values) and any(map(is_blank, values))


def is_conversation(value: Json) -> bool:
    """Whether a value looks like a list of messages, like a body with one, or like the text of either."""
    if isinstance(value, str):
        if value[:1] not in _JSON_START or not any(word in value for word in _WORDS):
            return False
        try:
            return is_conversation(msgspec.json.decode(value, type=list | dict))
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            return _AS_PYTHON.match(value) is not None
    if isinstance(value, dict):
        value = value.get("messages") or value.get("conversations")
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def are_plain(values: Iterable[object]) -> bool:
    """Whether it is certain, from the first characters alone, that all values are texts and none is a conversation.

    :param values: any values
    """
    return _none_begins_with(_JSON_START, values)


def any_conversation(values: Sequence[Json]) -> bool:
    """Whether any value is a conversation (`is_conversation`).

    :param values: any values
    """
    return not are_plain(values) and any(map(is_conversation, values))


def conversation_problem(value: Json, column: str, remedy: str) -> str | None:
    """What is wrong with a value that would become a prompt and is a conversation; ``None`` for anything else.

    :param value: the value
    :param column: its column
    :param remedy: what to do with a conversation
    """
    if not is_conversation(value):
        return None
    if isinstance(value, str) and _AS_PYTHON.match(value):
        remedy = f"Write it as JSON. {remedy}"
    elif _has_other_names(msgspec.json.decode(value) if isinstance(value, str) else value):
        remedy = f"Rename 'from' and 'value' in it to 'role' and 'content'. {remedy}"
    return (
        f"the column {short_name(column)!r} has a conversation. {remedy}, or write a template around it to send its JSON text, "
        "such as 'Summarize: {...}'"
    )


def _is_message(item: Json) -> bool:
    if not isinstance(item, dict):
        return False
    if "role" in item:
        return "content" in item or "tool_calls" in item
    return isinstance(item.get("from"), str) and isinstance(item.get("value"), str)


def _has_other_names(value: Json) -> bool:
    """Whether a conversation has the names of ShareGPT."""
    if isinstance(value, dict):
        value = value.get("messages") or value.get("conversations")
    return isinstance(value, list) and any(isinstance(item, dict) and "role" not in item for item in value)
