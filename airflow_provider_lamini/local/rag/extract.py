"""Text out of documents: plain text, Markdown, HTML, PDF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.rag.html import blocks_of_html, declared_charset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PDF_MAGIC: Final = b"%PDF-"
MAGIC_WITHIN: Final = 1024
"""A PDF's mark may stand a little into the file."""

_BOMS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML: Final = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_ATX: Final = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINK: Final = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_EMPHASIS: Final = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_OWN_LINE: Final = re.compile(r"\s*(?:[-*+\u2022]\s|\d{1,3}[.)]\s|\||>)|\s{4,}|\t")
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-z\u00df-\u00ff])")


class UnreadableDocumentError(Exception):
    """A document cannot be read. The message says why, without the document's name."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a heading.

    :param text: its text
    :param level: 1 to 6 for a heading, 0 for a paragraph
    """

    text: str
    level: int = 0


def read_document(path: Path, name: str, check: Callable[[], None]) -> list[Block]:
    """A document's text.

    What it is shows in its name's ending, else in its beginning; what is nothing else is plain text.

    :param path: where it lies
    :param name: what its owner calls it
    :param check: called now and then; what it raises ends the reading
    :returns: its blocks in order; none where it is empty
    :raises UnreadableDocumentError: there is no text to be had
    """
    ending = PurePath(name).suffix.lower()
    with path.open("rb") as file:
        start = file.read(MAGIC_WITHIN)
    if ending == ".pdf" or PDF_MAGIC in start:
        return list(_pdf(path, check))
    content = path.read_bytes()
    if ending in (".html", ".htm", ".xhtml"):
        return _html(content)
    text = decode(content)
    if _HTML.match(text):
        return _html(content)
    if ending in (".md", ".markdown"):
        return list(markdown(text))
    return list(paragraphs(text))


def decode(content: bytes, charset: str | None = None) -> str:
    """Text from bytes: as its mark says, else as declared, else UTF-8, else as Windows writes it.

    :param content: the bytes
    :param charset: what the document says of itself
    :raises UnreadableDocumentError: it is no text
    """
    marked = next((name for bom, name in _BOMS.items() if content.startswith(bom)), None)
    for name in (marked, charset, "utf-8", "cp1252"):
        if name is None:
            continue
        try:
            text = content.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        if _NO_TEXT.search(text):
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise UnreadableDocumentError(
        "it is no text: text, Markdown, HTML and PDF can be read, in UTF-8 unless the file says otherwise"
    )


def paragraphs(text: str) -> Iterator[Block]:
    """Plain text's paragraphs: a blank line parts them, lines that were only wrapped are joined."""
    for part in re.split(r"\n\s*\n|\f", text):
        if joined := unwrapped(part):
            yield Block(joined)


def unwrapped(text: str) -> str:
    """A paragraph whose wrapped lines are joined; items of lists and rows of tables stay lines."""
    joined = ""
    for line in _HYPHEN.sub("", text).splitlines():
        if not line.strip():
            continue
        mark = "\n" if _OWN_LINE.match(line) else " "
        joined += (mark if joined else "") + line.strip()
    return joined


def markdown(text: str) -> Iterator[Block]:
    """Markdown's headings and paragraphs; links and images keep their text only, code stays as it is."""
    lines: list[str] = []
    fence = ""

    def paragraph() -> Iterator[Block]:
        kept = _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", "\n".join(lines)))
        lines.clear()
        yield from paragraphs(kept)

    for line in text.splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
                yield Block("\n".join(lines))
                lines.clear()
            else:
                lines.append(line)
        elif mark:
            yield from paragraph()
            fence = mark[1]
        elif heading := _ATX.fullmatch(line):
            yield from paragraph()
            if heading[2]:
                yield Block(heading[2], len(heading[1]))
        else:
            lines.append(line)
    yield from paragraph()


def _html(content: bytes) -> list[Block]:
    return [Block(text, level) for text, level in blocks_of_html(decode(content, declared_charset(content)))]


def _pdf(path: Path, check: Callable[[], None]) -> Iterator[Block]:
    from airflow_provider_lamini.local.rag.pdf import pages_of_pdf

    empty = True
    for page in pages_of_pdf(path):
        check()
        for block in paragraphs(page):
            empty = False
            yield block
    if empty:
        raise UnreadableDocumentError("it holds no text: pages that are pictures need OCR first")
