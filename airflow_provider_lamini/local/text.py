"""Plain text in parts: sentences, and how many tokens a piece is about."""

from __future__ import annotations

import re
from typing import Final

LETTERS_PER_TOKEN: Final = 6
"""Longer words count as several tokens."""

_PIECE: Final = re.compile(
    r"(?P<ideograph>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])|(?P<word>[^\W_]+)|(?P<other>[^\w\s]|_)"
)
_END: Final = re.compile(
    r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[^\W_a-z])|[\u3002\uff01\uff1f]|\n+"
)
_NO_END: Final = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|No|Nr|vs|approx|e\.g|i\.e|z\.B|ca|Fig|Inc|Ltd)\.$"
)


def sentences(text: str) -> list[str]:
    """A text's sentences, without the white space between them. A line's end ends a sentence.

    :param text: the text
    """
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        sentence = text[start : end.end()].strip()
        if _NO_END.search(sentence):
            continue
        if sentence:
            found.append(sentence)
        start = end.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def token_count(text: str) -> int:
    """About how many tokens the embedding model sees in a text: words, parts of long words, signs.

    :param text: the text
    """
    count = 0
    for piece in _PIECE.finditer(text):
        word = piece["word"]
        count += 1 if word is None else -(-len(word) // LETTERS_PER_TOKEN)
    return count
