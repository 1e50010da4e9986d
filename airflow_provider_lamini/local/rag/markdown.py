"""Markdown: extracts headings, paragraphs, lists and code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

from airflow_provider_lamini.local.rag.html import html_blocks
from airflow_provider_lamini.local.text import join_wrapped_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

_LISTS: Final = {"bullet_list_open": "-", "ordered_list_open": "1."}
# These rules join texts one by one, which takes time with the square of their number.
_PARSER: Final = MarkdownIt("commonmark").disable(["text_join", "fragments_join"])
_TEXTS: Final = {"text", "text_special", "code_inline"}
_BREAKS: Final = {"softbreak", "hardbreak"}
_CODE: Final = {"fence", "code_block"}


def markdown_blocks(text: str) -> Iterator[tuple[str, int]]:
    """Extract the blocks of a text in Markdown. Links and images become their text, code stays as it is.

    :param text: the source
    :return: text and heading level of each block, 0 for all but headings; a list is one block, with a line per item
    """
    lists: list[str] = []
    lines: list[str] = []
    level, starts_item = 0, False
    for token in _PARSER.parse(text):
        if token.type in _LISTS:
            lists.append(_LISTS[token.type])
        elif token.type == "list_item_open":
            starts_item = True
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            lists.pop()
        elif token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "heading_close":
            level = 0
        else:
            for found, found_level in _content(token, level):
                if not lists:
                    yield found, found_level
                    continue
                lines.append(f"{lists[-1]} {found}" if starts_item else found)
                starts_item = False
        if lines and not lists:
            yield "\n".join(lines), 0
            lines.clear()


def _content(token: Token, level: int) -> Iterator[tuple[str, int]]:
    """Yield the blocks in the content of one token."""
    if token.type == "inline":
        if text := join_wrapped_lines(_plain_text(token.children or ()).split("\n")):
            yield text, level
    elif token.type in _CODE:
        if code := token.content.rstrip("\n"):
            yield code, 0
    elif token.type == "html_block":
        yield from html_blocks(token.content)


def _plain_text(tokens: Sequence[Token]) -> str:
    pieces: list[str] = []
    for token in tokens:
        if token.type in _BREAKS:
            pieces.append("\n")
        elif token.type == "image":
            pieces.append(_plain_text(token.children or ()))
        elif token.type in _TEXTS:
            pieces.append(token.content)
    return "".join(pieces)
