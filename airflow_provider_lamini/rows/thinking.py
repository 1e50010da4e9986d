"""What a reasoning model writes before its answer, in the same text."""

from __future__ import annotations

import re
from typing import NamedTuple

BEGINS = re.compile(r"<think(?:ing)?>|(?P<reasoning><reasoning>)|(?P<token>(?-i:\[THINK\]))", re.IGNORECASE)
"""What begins thinking."""
_ENDS = {
    None: re.compile(r"</think(?:ing)?>", re.IGNORECASE),
    "reasoning": re.compile(r"</reasoning>", re.IGNORECASE),
    "token": re.compile(r"\[/THINK\]"),
}
"""What ends it, by the group of the beginning."""
TOKEN = "[THINK]"  # noqa: S105 - no secret
TAGS = ("</think", "</reasoning", TOKEN)
"""One of these is in each text with thinking, in the case in which models write them, unless it is cut off."""
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
    begin = BEGINS.match(text, len(text) - len(text.lstrip()))
    if begin is None:
        end = _ENDS_ALONE.search(text)
        if end is None or BEGINS.search(text, 0, end.start()):
            return Thinking(None, text)
        return _split(text, 0, end)
    end = end_of(begin)
    return Thinking(text[begin.end() :].strip(), "") if end is None else _split(text, begin.end(), end)


def end_of(begin: re.Match[str]) -> re.Match[str] | None:
    """Where thinking ends; ``None`` if it was cut off.

    :param begin: what `BEGINS` has found
    """
    return _ENDS[begin.lastgroup].search(begin.string, begin.end())


def _split(text: str, begin: int, end: re.Match[str]) -> Thinking:
    return Thinking(text[begin : end.start()].strip(), text[end.end() :].lstrip())
