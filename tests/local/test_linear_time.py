"""Text functions take linear time, whatever the text: twice the input takes at most two and a half times as long."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import TYPE_CHECKING

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from airflow_provider_lamini.local.datasets.upload_parser import UploadParser
from airflow_provider_lamini.local.edge.json_bodies import check_json
from airflow_provider_lamini.local.metrics import fuzzy_match, text_metrics
from airflow_provider_lamini.local.rag.documents import Block, decode, markdown, paragraphs
from airflow_provider_lamini.local.rag.html import declared_charset, html_blocks
from airflow_provider_lamini.local.rag.passages import split_into_passages
from airflow_provider_lamini.local.rag.prompts import prompt_with_passages, strip_chat_template
from airflow_provider_lamini.local.text import join_wrapped_lines, sentences, token_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.faults

MAX_GROWTH = 2.5
ROUNDS = 5

HTML = {
    "tag openings": lambda size: "<a " * size,
    "comments": lambda size: "<!-- a -->" * size + "text",
    "open comments": lambda size: "<!--" * size,
    "end tags": lambda size: "</b>" * size,
    "end tags in depth": lambda size: "<div>" * 900 + "</b>" * size,
    "paragraphs": lambda size: "<p>" * size,
    "lists": lambda size: "<li>a" * size,
    "cells": lambda size: "<table>" + "<td>a" * size,
    "formatting": lambda size: "<b><i>a</b></i>" * size,
    "entities": lambda size: "&a" * size,
    "attribute": lambda size: "<a x='" + "y" * size + "'>",
    "sections": lambda size: "<![CDATA[" * size,
    "quotes": lambda size: "<a x='" * size,
    "titles": lambda size: "<title>a" * size,
    "hidden": lambda size: "<script>a</script>" * size,
}
MARKDOWN = {
    "comments": lambda size: "<!-- a -->\n" * size + "text",
    "emphasis": lambda size: "**a *b_ " * size,
    "links": lambda size: "[a](" * size,
    "images": lambda size: "![[" * size,
    "brackets": lambda size: "[a][" * size,
    "heading": lambda size: "# " + " " * size + "x",
    "heading's end": lambda size: "# x" + " #" * size + " y",
    "quotes": lambda size: ">" * size,
    "quoted lines": lambda size: "> a\n" * size,
    "nested lists": lambda size: "- " * size + "x",
    "items": lambda size: "- a\n" * size,
    "backticks": lambda size: "".join("`" * (number % 90) + " " for number in range(size // 45)),
    "definitions": lambda size: "".join(f"[{number}]: /u\n" for number in range(size // 8)),
    "fences": lambda size: "```\n" * size,
    "entities": lambda size: "&a" * size,
    "tags": lambda size: "<a " * size,
    "tables": lambda size: "|" * size + "\n" + "|-" * size,
}
PLAIN = {
    "sentences": lambda size: "A b. " * size,
    "abbreviations": lambda size: "Dr. A. B. " * size,
    "dots": lambda size: "." * size,
    "dots and quotes": lambda size: '."' + '"' * size,
    "dot and blanks": lambda size: "." + " " * size + "a",
    "blanks": lambda size: " " * size + "a",
    "blank lines": lambda size: "\n " * size,
    "lines": lambda size: "a-\n" * size,
    "form feeds": lambda size: "a\f" * size,
    "one word": lambda size: "a" * size,
    "words": lambda size: "word " * size,
    "marks": lambda size: "<|" * size,
    "system prompts": lambda size: "[INST] <<SYS>> " * size,
    "roles": lambda size: "<|im_start|> " * size + " " * size,
    "surrogates": lambda size: "\\ud83d" * size,
    "escapes": lambda size: "\\\\n" * size,
    "commas": lambda size: "[" + "," * size,
}


def passages(text: str) -> list[str]:
    return split_into_passages(list(paragraphs(text)))


def passages_below_a_heading(text: str) -> list[str]:
    half = len(text) // 2
    sections = [block for number in range(half // 200) for block in (Block(f"h{number}", 2), Block("a"))]
    return split_into_passages([*markdown("# " + text[:half].replace("\n", " ")), *sections])


def upload(text: str) -> None:
    with contextlib.suppress(RequestValidationError, HTTPException):  # most texts are no JSON
        UploadParser(lambda _: None).feed(b'{"data": [{"a": "' + text.encode())


def check_body(text: str) -> None:
    with contextlib.suppress(HTTPException):  # most texts are no JSON
        check_json(b'{"a": "' + text.encode() + b'"}')


CASES = [
    *(pytest.param(html_blocks, make, 6000, id=f"html: {name}") for name, make in HTML.items()),
    *(pytest.param(markdown, make, 600, id=f"Markdown: {name}") for name, make in MARKDOWN.items()),
    *(
        pytest.param(function, make, 3000, id=f"{function.__name__}: {name}")
        for function in (
            passages,
            passages_below_a_heading,
            sentences,
            token_count,
            upload,
            check_body,
            strip_chat_template,
            lambda text: prompt_with_passages([], text),
            lambda text: join_wrapped_lines(text.split("\n")),
            lambda text: text_metrics([text, text], [text[1:], "a"], fuzzy_match),
            lambda text: decode(text.encode("utf-16")),
            lambda text: declared_charset(text.encode()),
        )
        for name, make in PLAIN.items()
    ),
]


def cpu_time(function: Callable[[str], object], text: str) -> float:
    """Shortest CPU time of a few calls, in seconds."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        function(text)
        times.append(time.thread_time() - began)
    return min(times)


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """Measure without the collector, as its share grows with what other tests have left."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(("function", "make", "size"), CASES)
def test_twice_the_text_takes_at_most_two_and_a_half_times_as_long(
    function: Callable[[str], object], make: Callable[[int], str], size: int
) -> None:
    growths = []
    for _ in range(ROUNDS):  # another process may disturb a measurement, but not make it faster
        shorter, longer = cpu_time(function, make(size)), cpu_time(function, make(2 * size))
        if longer < 0.002:
            return
        growths.append(longer / shorter)
        if growths[-1] <= MAX_GROWTH:
            return
    pytest.fail(f"twice the text takes {min(growths):.1f} times as long")
