"""Documents: extracts paragraphs and headings from plain text, Markdown, HTML and PDF files."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.rag.html import declared_charset, html_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PDF_MAGIC: Final = b"%PDF-"
MAGIC_SEARCH_BYTES: Final = 1024
"""Bytes at the start of a file in which the PDF signature may appear."""

_BOMS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML_START: Final = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_HEADING: Final = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_LINK: Final = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_EMPHASIS: Final = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_LIST_OR_TABLE: Final = re.compile(r"\s*(?:[-*+\u2022]\s|\d{1,3}[.)]\s|\||>)|\s{4,}|\t")
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-z\u00df-\u00ff])")


class UnreadableDocumentError(Exception):
    """A document cannot be read. The message says why and does not repeat the document's name."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a heading.

    :param text: its text
    :param level: 1 to 6 for a heading, 0 for a paragraph
    """

    text: str
    level: int = 0


def read_document(path: Path, name: str, check: Callable[[], None]) -> list[Block]:
    """Read a document.

    Its format follows from the extension of its name, else from its first bytes; the default is plain text.

    :param path: the file
    :param name: the document's original file name
    :param check: called from time to time; an exception it raises stops the reading
    :return: its blocks in order; none if it is empty
    :raises UnreadableDocumentError: no text can be extracted
    """
    extension = PurePath(name).suffix.lower()
    with path.open("rb") as file:
        start = file.read(MAGIC_SEARCH_BYTES)
    if extension == ".pdf" or PDF_MAGIC in start:
        return list(_pdf(path, check))
    content = path.read_bytes()
    if extension in (".html", ".htm", ".xhtml"):
        return _html(content)
    text = decode(content)
    if _HTML_START.match(text):
        return _html(content)
    if extension in (".md", ".markdown"):
        return list(markdown(text))
    return list(paragraphs(text))


def decode(content: bytes, charset: str | None = None) -> str:
    """Decode text by its byte order mark, else its declared character set, else UTF-8, else Windows-1252.

    :param content: the bytes
    :param charset: character set that the document declares
    :raises UnreadableDocumentError: the content is not text
    """
    bom_charset = next((name for bom, name in _BOMS.items() if content.startswith(bom)), None)
    for name in (bom_charset, charset, "utf-8", "cp1252"):
        if name is None:
            continue
        try:
            text = content.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        if _BINARY.search(text):
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise UnreadableDocumentError(
        "it is not text; supported are plain text, Markdown, HTML and PDF, in UTF-8 unless the file declares "
        "another character set"
    )


def paragraphs(text: str) -> Iterator[Block]:
    """Split plain text into paragraphs at blank lines, and join wrapped lines."""
    for paragraph in re.split(r"\n\s*\n|\f", text):
        if joined := join_wrapped_lines(paragraph):
            yield Block(joined)


def join_wrapped_lines(text: str) -> str:
    """Join the wrapped lines of a paragraph. List items and table rows stay on their own lines."""
    joined = ""
    for line in _HYPHEN.sub("", text).splitlines():
        if not line.strip():
            continue
        separator = "\n" if _LIST_OR_TABLE.match(line) else " "
        joined += (separator if joined else "") + line.strip()
    return joined


def markdown(text: str) -> Iterator[Block]:
    """Split Markdown into headings and paragraphs. Links and images become their text; code is unchanged."""
    lines: list[str] = []
    fence = ""

    def paragraph() -> Iterator[Block]:
        plain = _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", "\n".join(lines)))
        lines.clear()
        yield from paragraphs(plain)

    for line in text.splitlines():
        fence_mark = _FENCE.match(line)
        if fence:
            if fence_mark and fence_mark[1].startswith(fence):
                fence = ""
                yield Block("\n".join(lines))
                lines.clear()
            else:
                lines.append(line)
        elif fence_mark:
            yield from paragraph()
            fence = fence_mark[1]
        elif heading := _HEADING.fullmatch(line):
            yield from paragraph()
            if heading[2]:
                yield Block(heading[2], len(heading[1]))
        else:
            lines.append(line)
    yield from paragraph()


def _html(content: bytes) -> list[Block]:
    return [Block(text, level) for text, level in html_blocks(decode(content, declared_charset(content)))]


def _pdf(path: Path, check: Callable[[], None]) -> Iterator[Block]:
    empty = True
    for page in _pdf_pages(path):
        check()
        for block in paragraphs(page):
            empty = False
            yield block
    if empty:
        raise UnreadableDocumentError("it contains no text; scanned pages need OCR first")


def _pdf_pages(path: Path) -> Iterator[str]:
    """Extract the text of each page.

    :raises UnreadableDocumentError: the file is damaged or needs a password
    """
    import pypdf

    # pypdf warns about every oddity, even in files that it reads without problems.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    locked = False
    try:
        with path.open("rb") as file:
            reader = pypdf.PdfReader(file)
            locked = reader.is_encrypted and not reader.decrypt("")
            for page in () if locked else reader.pages:
                yield page.extract_text()
    except Exception as error:
        # A damaged file can make pypdf fail anywhere, not only with its own exceptions.
        raise UnreadableDocumentError(f"it is not a readable PDF ({type(error).__name__})") from error
    if locked:
        raise UnreadableDocumentError("it is locked with a password")
