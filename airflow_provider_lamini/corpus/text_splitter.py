"""Long texts in pieces, cut where a reader would cut."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"[.!?]\s+"), re.compile(r"\s+"))
"""Where to cut, the best first: between paragraphs, lines, sentences, words."""


def pieces(text: str, limit: int) -> Iterator[str]:
    """Cut a text into pieces.

    :param text: the text
    :param limit: characters of a piece at the most
    :return: the pieces in order, without blank ones
    """
    start = 0
    while start < len(text):
        end = start + limit
        if end < len(text):
            end = _cut(text, start, end)
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end


def _cut(text: str, start: int, end: int) -> int:
    """The last good place before ``end``, in the second half of the piece if there is one."""
    middle = start + (end - start) // 2
    for pattern in _ENDS:
        cuts = [match.end() for match in pattern.finditer(text, middle, end)]
        if cuts:
            return cuts[-1]
    return end
