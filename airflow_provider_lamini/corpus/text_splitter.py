"""Splits long texts at natural boundaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUNDARIES = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s+"), re.compile(r"\s+"))
"""Where to split, best first: between paragraphs, lines, sentences, words."""


def pieces(text: str, limit: int) -> Iterator[str]:
    """Split a text into pieces.

    :param text: the text
    :param limit: maximum length of a piece in characters
    :return: the pieces in order, without blank ones
    """
    start = 0
    while start < len(text):
        end = start + limit
        if end < len(text):
            end = _split_position(text, start, end)
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end


def _split_position(text: str, start: int, end: int) -> int:
    """The last boundary in the second half of the piece; ``end`` if there is none."""
    middle = start + (end - start) // 2
    for pattern in _BOUNDARIES:
        cuts = [match.end() for match in pattern.finditer(text, middle, end)]
        if cuts:
            return cuts[-1]
    return end
