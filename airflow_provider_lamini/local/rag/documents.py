"""Documents: extracts paragraphs and headings from plain text, Markdown, HTML and PDF files."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.rag.html import (
    MAX_DEPTH,
    NestedTooDeeplyError,
    declared_charset,
    html_blocks,
)
from airflow_provider_lamini.local.rag.markdown import markdown_blocks
from airflow_provider_lamini.local.text import join_wrapped_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PDF_MAGIC: Final = b"%PDF-"
MAGIC_SEARCH_BYTES: Final = 1024
"""Bytes at the start of a file in which the PDF signature may appear."""

HTML_SEARCH: Final = 4096
"""Characters at the start of a text in which the first element of a page must begin."""

MAX_HEADING: Final = 1000
"""Characters of a heading. A longer one is a paragraph: headings are repeated in each passage below them."""

_BOMS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML_TAGS: Final = ("<!doctype html", "<html", "<head", "<body")


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


def read_document(path: Path, name: str) -> list[Block]:
    """Read a document. A hostile one may take much time and memory: see :mod:`.reader`.

    Its format follows from the extension of its name, else from its first bytes; the default is plain text.

    :param path: the file
    :param name: the document's original file name
    :return: its blocks in order; none if it is empty
    :raises UnreadableDocumentError: no text can be extracted
    """
    extension = PurePath(name).suffix.lower()
    with path.open("rb") as file:
        start = file.read(MAGIC_SEARCH_BYTES)
    if extension == ".pdf" or PDF_MAGIC in start:
        return _pdf(path)
    content = path.read_bytes()
    if extension in (".html", ".htm", ".xhtml"):
        return _html(content)
    text = decode(content)
    if _starts_like_html(text[:HTML_SEARCH]):
        return _html(content)
    if extension in (".md", ".markdown"):
        return markdown(text)
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
            text.encode()  # some character sets decode to lone surrogates
        except (UnicodeError, LookupError):
            continue
        if _BINARY.search(text):
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise UnreadableDocumentError(
        "it is not text; supported are plain text, Markdown, HTML and PDF, in UTF-8 unless the file declares "
        "another character set"
    )


def paragraphs(text: str) -> Iterator[Block]:
    """Split plain text into paragraphs at blank lines and form feeds, and join wrapped lines."""
    lines: list[str] = []
    for page in text.split("\f"):
        for line in [*page.splitlines(), ""]:
            if line.strip():
                lines.append(line)
            elif lines:
                yield Block(join_wrapped_lines(lines))
                lines.clear()


def markdown(text: str) -> list[Block]:
    """Split Markdown into headings, paragraphs, lists and code."""
    blocks: list[Block] = []
    try:
        for found, level in markdown_blocks(text):
            blocks.append(_block(found, level))
    except NestedTooDeeplyError:
        raise _nested_too_deeply() from None
    return blocks


def _html(content: bytes) -> list[Block]:
    try:
        found = html_blocks(decode(content, declared_charset(content)))
    except NestedTooDeeplyError:
        raise _nested_too_deeply() from None
    return [_block(text, level) for text, level in found]


def _block(text: str, level: int) -> Block:
    return Block(text, level if len(text) <= MAX_HEADING else 0)


def _nested_too_deeply() -> UnreadableDocumentError:
    return UnreadableDocumentError(f"it has more than {MAX_DEPTH} elements within each other")


def _starts_like_html(start: str) -> bool:
    """Whether a text starts with an element of a page, after comments."""
    position = 0
    while True:
        while start[position : position + 1].isspace():
            position += 1
        if not start.startswith("<!--", position):
            break
        end = start.find("-->", position)
        if end < 0:
            return False
        position = end + len("-->")
    tag = start[position : position + len(_HTML_TAGS[0]) + 1].lower()
    following = next((tag[len(name) :] for name in _HTML_TAGS if tag.startswith(name)), "x")
    return not following[:1].isalnum()


def _pdf(path: Path) -> list[Block]:
    found = [block for page in _pdf_pages(path) for block in paragraphs(page)]
    if not found:
        raise UnreadableDocumentError("it contains no text; scanned pages need OCR first")
    return found


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
                text = page.extract_text()
                yield text.encode(errors="replace").decode()  # a font may map glyphs to lone surrogates
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file can make pypdf fail anywhere, not only with its own exceptions.
        raise UnreadableDocumentError(f"it is not a readable PDF ({type(error).__name__})") from error
    if locked:
        raise UnreadableDocumentError("it is locked with a password")
