"""Plain text: splits it into sentences and estimates its number of tokens."""

from __future__ import annotations

import re
from typing import Final

LETTERS_PER_TOKEN: Final = 6
"""Longer words count as several tokens."""

_TOKEN: Final = re.compile(
    r"(?P<ideograph>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])|(?P<word>[^\W_]+)|(?P<other>[^\w\s]|_)"
)
_SENTENCE_END: Final = re.compile(
    r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[^\W_a-z])|[\u3002\uff01\uff1f]|\n+"
)
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|No|Nr|vs|approx|e\.g|i\.e|z\.B|ca|Fig|Inc|Ltd)\.$"
)


def sentences(text: str) -> list[str]:
    """Split a text into sentences and strip the white space around them. A line break ends a sentence."""
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        sentence = text[start : end.end()].strip()
        if _ABBREVIATION.search(sentence):
            continue
        if sentence:
            found.append(sentence)
        start = end.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def token_count(text: str) -> int:
    """Estimate the number of tokens the embedding model sees: words, parts of long words, punctuation."""
    count = 0
    for token in _TOKEN.finditer(text):
        word = token["word"]
        count += 1 if word is None else -(-len(word) // LETTERS_PER_TOKEN)
    return count
