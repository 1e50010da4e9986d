"""Plain text: joins wrapped lines, splits sentences, estimates the number of tokens. All in linear time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_ABBREVIATION_LENGTH: Final = len(" approx.")
_LIST_OR_TABLE: Final = re.compile(r"\s*+(?:[-*+\u2022]\s|\d{1,3}[.)]\s|\||>)|\s{4}|\t")
_HYPHENS: Final = ("-", "\u00ad")


def sentences(text: str) -> list[str]:
    """Split a text into sentences and strip the white space around them. A line break ends a sentence."""
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        if _is_abbreviation(text, start, end.end()):
            continue
        if sentence := text[start : end.end()].strip():
            found.append(sentence)
        start = end.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def _is_abbreviation(text: str, start: int, end: int) -> bool:
    """Whether what seems to be the end of a sentence is an abbreviation's."""
    last = end - 1
    while last > start and text[last].isspace():
        last -= 1
    return _ABBREVIATION.search(text[max(start, last + 1 - _ABBREVIATION_LENGTH) : last + 1]) is not None


def join_wrapped_lines(lines: Iterable[str]) -> str:
    """Join the wrapped lines of a paragraph, and words that were split. List items and table rows keep their lines."""
    pieces: list[str] = []
    for line in lines:
        text = line.strip()
        if not text:
            continue
        if _LIST_OR_TABLE.match(line):
            pieces += ["\n", text]
        elif pieces and _is_split(pieces[-1], line):
            pieces[-1:] = [pieces[-1][:-1], text]
        else:
            pieces += [" ", text]
    return "".join(pieces[1:])


def _is_split(line: str, following: str) -> bool:
    """Whether a line ends within a word that the following line continues."""
    return line.endswith(_HYPHENS) and line[-2:-1].isalpha() and following[:1].islower()


def token_count(text: str) -> int:
    """Estimate the number of tokens the embedding model sees: words, parts of long words, punctuation."""
    count = 0
    for token in _TOKEN.finditer(text):
        word = token["word"]
        count += 1 if word is None else -(-len(word) // LETTERS_PER_TOKEN)
    return count
