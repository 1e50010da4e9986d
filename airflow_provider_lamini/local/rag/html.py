"""HTML: extracts the text of a page that a browser would show."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_HIDDEN: Final = {
    "button", "head", "iframe", "nav", "noscript", "object", "script", "select", "style", "svg", "template", "textarea",
}  # fmt: skip
_BLOCKS: Final = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "pre",
    "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
}  # fmt: skip
_CELLS: Final = {"td", "th"}
_HEADING: Final = re.compile(r"h([1-6])")
_CHARSET: Final = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_CHARSET_SEARCH_BYTES: Final = 4096


def declared_charset(content: bytes) -> str | None:
    """Return the character set that a page declares."""
    found = _CHARSET.search(content[:_CHARSET_SEARCH_BYTES])
    return found[1].decode("ascii") if found else None


def html_blocks(text: str) -> list[tuple[str, int]]:
    """Extract a page's paragraphs and headings.

    :param text: the page's source
    :return: text and heading level of each, 0 for a paragraph; the page's title comes first, as a heading
    """
    parser = _BlockParser()
    parser.feed(text)
    parser.close()
    return parser.finish()


class _BlockParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[tuple[str, int]] = []
        self._pieces: list[str] = []
        self._hidden: list[str] = []
        self._level = 0
        self._title: str | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start an element."""
        if tag == "title" and self._title is None:
            self._in_title, self._title = True, ""
        elif tag == "body":
            # This also ends a head that is never closed.
            self._hidden.clear()
            self._end_block()
        elif self._hidden or tag in _HIDDEN:
            if tag in _HIDDEN:
                self._hidden.append(tag)
        elif heading := _HEADING.fullmatch(tag):
            self._end_block()
            self._level = int(heading[1])
        elif tag in _BLOCKS:
            self._end_block()
        elif tag in _CELLS:
            self._pieces.append(" ")
        elif tag == "img":
            self._pieces += [f" {value} " for name, value in attrs if name == "alt" and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Handle an element without content."""
        if tag not in _HIDDEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag == "title":
            self._in_title = False
        elif tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        elif not self._hidden and (tag in _BLOCKS or _HEADING.fullmatch(tag)):
            self._end_block()

    def handle_data(self, data: str) -> None:
        """Collect text."""
        if self._in_title:
            self._title = (self._title or "") + data
        elif not self._hidden:
            self._pieces.append(data)

    def finish(self) -> list[tuple[str, int]]:
        """Return all blocks."""
        self._end_block()
        title = " ".join((self._title or "").split())
        if title and not any(level == 1 and text == title for text, level in self._blocks):
            return [(title, 1), *self._blocks]
        return self._blocks

    def _end_block(self) -> None:
        text = " ".join("".join(self._pieces).split())
        self._pieces.clear()
        if text:
            self._blocks.append((text, self._level))
        self._level = 0
