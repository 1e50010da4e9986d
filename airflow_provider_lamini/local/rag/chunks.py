"""Passages: pieces of a document that are small enough to be found by their meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.text import sentences, token_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_lamini.local.rag.extract import Block

PASSAGE_TOKENS: Final = 200
"""About so many tokens at most: the embedding model reads 256, and the count here is an estimate."""

OVERLAP_TOKENS: Final = 40
"""A passage begins with so much of the one before it in the same section, in whole sentences."""

HEADING_TOKENS: Final = 40
"""Headings above a passage are part of it, but at most so much."""

_PATH: Final = " > "


def passages(blocks: Sequence[Block]) -> list[str]:
    """Cut a document into passages, by sections, then paragraphs, then sentences.

    :param blocks: the document
    :returns: the passages in order, each with the headings that it stands under
    """
    found: list[str] = []
    for headings, section in _sections(blocks):
        title = _title(headings)
        room = PASSAGE_TOKENS - token_count(title)
        bodies = _packed(section, room) if section else [""]
        found += ["\n".join(part for part in (title, body) if part) for body in bodies]
    return found


def _sections(blocks: Sequence[Block]) -> Iterator[tuple[list[str], list[str]]]:
    """The headings above a section, and its paragraphs; sections that only hold sections are left out."""
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
    """The headings in one line; where they are too long, the ones nearest to the text."""
    kept: list[str] = []
    for heading in reversed(headings):
        if kept and token_count(_PATH.join([heading, *kept])) > HEADING_TOKENS:
            break
        kept.insert(0, heading)
    title = _PATH.join(kept)
    return title if token_count(title) <= HEADING_TOKENS else next(_words(title, HEADING_TOKENS))


def _packed(paragraphs: list[str], room: int) -> Iterator[str]:
    """Paragraphs put together and taken apart so that each piece fits."""
    piece: list[tuple[str, str]] = []  # what stands before a unit, and the unit
    size = 0
    for gap, unit in _units(paragraphs, room):
        tokens = token_count(unit)
        if piece and size + tokens > room:
            yield _joined(piece)
            piece = _overlap(piece, room - tokens)
            size = sum(token_count(text) for _, text in piece)
        piece.append((gap, unit))
        size += tokens
    if piece:
        yield _joined(piece)


def _units(paragraphs: list[str], room: int) -> Iterator[tuple[str, str]]:
    """Sentences, each with the white space before it."""
    for paragraph in paragraphs:
        gap = "\n\n"
        for line in paragraph.split("\n"):
            for sentence in sentences(line):
                for part in [sentence] if token_count(sentence) <= room else _words(sentence, room):
                    yield gap, part
                    gap = " "
            gap = "\n"


def _words(text: str, room: int) -> Iterator[str]:
    """A sentence that is too long, cut between words, and within words that are too long themselves."""
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
    kept: list[tuple[str, str]] = []
    size = 0
    for gap, unit in reversed(piece):
        size += token_count(unit)
        if size > min(OVERLAP_TOKENS, room):
            break
        kept.insert(0, (gap, unit))
    return kept


def _joined(piece: list[tuple[str, str]]) -> str:
    return "".join(gap + unit for gap, unit in piece).strip()
