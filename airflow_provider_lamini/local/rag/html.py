"""HTML: extracts the text of a page that a browser would show."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH: Final = 1000
"""Maximum number of elements within each other. Each end tag without a start tag is looked for in all of them."""

_HIDDEN: Final = {
    "button", "head", "iframe", "nav", "noscript", "object", "script", "select", "style", "svg", "template", "textarea",
}  # fmt: skip
_BLOCKS: Final = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "pre",
    "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
}  # fmt: skip
_CELLS: Final = {"td", "th"}
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}

_CHARSET: Final = re.compile(rb"""<meta[^>]*?charset\s*+=\s*+["']?\s*+([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_CHARSET_SEARCH_BYTES: Final = 1024
"""Bytes in which a browser looks for the character set."""


class NestedTooDeeplyError(Exception):
    """The page has more than :data:`MAX_DEPTH` elements within each other."""


def declared_charset(content: bytes) -> str | None:
    """Return the character set that a page declares."""
    found = _CHARSET.search(content[:_CHARSET_SEARCH_BYTES])
    return found[1].decode("ascii") if found else None


def html_blocks(text: str) -> list[tuple[str, int]]:
    """Extract a page's paragraphs and headings.

    :param text: the page's source, or a part of it
    :return: text and heading level of each, 0 for a paragraph; the page's title comes first, as a heading
    :raises NestedTooDeeplyError: the page has too many elements within each other
    """
    target = _BlockTarget()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)
    parser.feed(text.encode())
    with suppress(etree.XMLSyntaxError):  # a page without any element
        parser.close()
    return target.blocks()


class _BlockTarget:
    """Collects blocks while the parser reports elements and texts, so that no tree is built."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, int]] = []
        self._pieces: list[str] = []
        self._hidden: list[str] = []
        self._depth = 0
        self._level = 0
        self._title: list[str] | None = None
        self._in_title = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Start an element."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NestedTooDeeplyError
        if tag == "title" and self._title is None:
            self._in_title, self._title = True, []
        elif self._hidden or tag in _HIDDEN:
            if tag in _HIDDEN:
                self._hidden.append(tag)
        elif tag in _HEADINGS:
            self._end_block()
            self._level = _HEADINGS[tag]
        elif tag in _BLOCKS:
            self._end_block()
        elif tag in _CELLS:
            self._pieces.append(" ")
        elif tag == "img" and attributes.get("alt"):
            self._pieces.append(f" {attributes['alt']} ")

    def end(self, tag: str) -> None:
        """End an element."""
        self._depth -= 1
        if tag == "title":
            self._in_title = False
        elif self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.pop()
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._end_block()

    def data(self, text: str) -> None:
        """Collect text."""
        if self._in_title and self._title is not None:
            self._title.append(text)
        elif not self._hidden:
            self._pieces.append(text)

    def close(self) -> None:
        """End the page."""
        self._end_block()

    def blocks(self) -> list[tuple[str, int]]:
        """Return all blocks."""
        self._end_block()
        title = " ".join("".join(self._title or ()).split())
        if title and (title, 1) not in self._blocks:
            return [(title, 1), *self._blocks]
        return self._blocks

    def _end_block(self) -> None:
        text = " ".join("".join(self._pieces).split())
        self._pieces.clear()
        if text:
            self._blocks.append((text, self._level))
        self._level = 0
