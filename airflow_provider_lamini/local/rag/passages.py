"""Passages: splits a document into pieces that are small enough to be searched by meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.text import sentences, token_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_lamini.local.rag.documents import Block

PASSAGE_TOKENS: Final = 200
"""Maximum estimated tokens of a passage. The embedding model reads 256; the rest is a margin for the estimate."""

OVERLAP_TOKENS: Final = 40
"""Maximum tokens, in whole sentences, that a passage repeats from the previous one in the same section."""

HEADING_TOKENS: Final = 40
"""Maximum tokens of the headings at the start of a passage."""

_HEADING_SEPARATOR: Final = " > "


def split_into_passages(blocks: Sequence[Block]) -> list[str]:
    """Split a document into passages: by section, then by paragraph, then by sentence.

    :param blocks: the document
    :return: the passages in order, each with the headings above it
    """
    found: list[str] = []
    for headings, section in _sections(blocks):
        title = _title(headings)
        room = PASSAGE_TOKENS - token_count(title)
        bodies = _pack(section, room) if section else [""]
        found += ["\n".join(part for part in (title, body) if part) for body in bodies]
    return found


def _sections(blocks: Sequence[Block]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the headings and paragraphs of each section. Sections with only subsections are skipped."""
    headings: list[tuple[int, str]] = []
    section: list[str] = []
    for block in blocks:
        if not block.level:
            section.append(block.text)
            continue
        closes = bool(headings) and block.level <= headings[-1][0]
        if section or closes:
            yield [text for _, text in headings], section
        section = []
        headings = [(level, text) for level, text in headings if level < block.level]
        headings.append((block.level, block.text))
    if section or headings:
        yield [text for _, text in headings], section


def _title(headings: list[str]) -> str:
    """Join the headings in one line. If that is too long, use only the headings closest to the text."""
    used: list[str] = []
    for heading in reversed(headings):
        if used and token_count(_HEADING_SEPARATOR.join([heading, *used])) > HEADING_TOKENS:
            break
        used.insert(0, heading)
    title = _HEADING_SEPARATOR.join(used)
    return title if token_count(title) <= HEADING_TOKENS else next(_split_words(title, HEADING_TOKENS))


def _pack(paragraphs: list[str], room: int) -> Iterator[str]:
    """Join and split paragraphs into pieces of at most ``room`` tokens."""
    piece: list[tuple[str, str]] = []  # white space before each sentence, and the sentence
    size = 0
    for gap, sentence in _sentences(paragraphs, room):
        tokens = token_count(sentence)
        if piece and size + tokens > room:
            yield _joined(piece)
            piece = _overlap(piece, room - tokens)
            size = sum(token_count(text) for _, text in piece)
        piece.append((gap, sentence))
        size += tokens
    if piece:
        yield _joined(piece)


def _sentences(paragraphs: list[str], room: int) -> Iterator[tuple[str, str]]:
    """Yield the sentences, or parts of long ones, each with the white space before it."""
    for paragraph in paragraphs:
        gap = "\n\n"
        for line in paragraph.split("\n"):
            for sentence in sentences(line):
                for part in [sentence] if token_count(sentence) <= room else _split_words(sentence, room):
                    yield gap, part
                    gap = " "
            gap = "\n"


def _split_words(text: str, room: int) -> Iterator[str]:
    """Split a long sentence between words, and words that are too long themselves."""
    piece: list[str] = []
    size = 0
    for word in text.split():
        tokens = token_count(word)
        if piece and size + tokens > room:
            yield " ".join(piece)
            piece, size = [], 0
        if tokens > room:
            yield from (word[start : start + room] for start in range(0, len(word), room))
            continue
        piece.append(word)
        size += tokens
    if piece:
        yield " ".join(piece)


def _overlap(piece: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """Return the sentences at the end of a piece that the next piece repeats."""
    repeated: list[tuple[str, str]] = []
    size = 0
    for gap, sentence in reversed(piece):
        size += token_count(sentence)
        if size > min(OVERLAP_TOKENS, room):
            break
        repeated.insert(0, (gap, sentence))
    return repeated


def _joined(piece: list[tuple[str, str]]) -> str:
    return "".join(gap + sentence for gap, sentence in piece).strip()
