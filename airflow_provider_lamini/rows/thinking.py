"""What a reasoning model writes before its answer, in the same text."""

from __future__ import annotations

import re
from typing import NamedTuple

_BEGINS = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_BEGINS_ANYWHERE = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_ENDS = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ENDS_ALONE = re.compile(r"(?:\A|\n)[ \t]*</think(?:ing)?>|</think(?:ing)?>(?=[ \t]*\n\s*\S)", re.IGNORECASE)
"""An end whose beginning the chat template has written: at the beginning of a line, or at the end of one with an answer below. A
text about the tag has it between words."""


class Thinking(NamedTuple):
    """A text, taken apart.

    :param thoughts: what the model thinks; ``None`` if it does not
    :param answer: what comes after that; empty if the thinking was cut off
    """

    thoughts: str | None
    answer: str


def split_thinking(text: str) -> Thinking:
    """Take a text apart.

    :param text: what a model has written
    """
    begin = _BEGINS.match(text)
    if begin is None:
        end = _ENDS_ALONE.search(text)
        if end is None or _BEGINS_ANYWHERE.search(text, 0, end.start()):
            return Thinking(None, text)
        return _split(text, 0, end)
    end = _ENDS.search(text, begin.end())
    return Thinking(text[begin.end() :].strip(), "") if end is None else _split(text, begin.end(), end)


def _split(text: str, begin: int, end: re.Match[str]) -> Thinking:
    return Thinking(text[begin : end.start()].strip(), text[end.end() :].lstrip())
