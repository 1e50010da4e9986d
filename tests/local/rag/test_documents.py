"""Reading documents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.rag.documents import Block, UnreadableDocumentError, read_document
from tests.support.pdf import encrypted, pdf

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, name: str, content: bytes | str) -> list[Block]:
    path = folder / "000000"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path, name)


def test_plain_text_is_split_at_blank_lines_and_wrapped_lines_are_joined(tmp_path: Path) -> None:
    text = "One para-\ngraph that is\nwrapped.\n\n  \nA list:\n- first\n- second\n1. third\n\n\n"
    assert read(tmp_path, "a.txt", text) == [
        Block("One paragraph that is wrapped."),
        Block("A list:\n- first\n- second\n1. third"),
    ]


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_decoded_in_common_character_sets(tmp_path: Path, charset: str) -> None:
    text = "Łódź" if charset != "cp1252" else "Käse \u2013 5 €"
    assert read(tmp_path, "a.txt", f"{text}\r\nok".encode(charset)) == [Block(f"{text} ok")]


def test_markdown_keeps_headings_code_and_the_text_of_links(tmp_path: Path) -> None:
    text = (
        "# Title #\nSome **bold** [link](http://example.com/x) and ![a picture](p.png).\n"
        "## Sub\n```python\n# no heading\n\nx = 1\n```\n#no heading either\n"
    )
    assert read(tmp_path, "a.md", text) == [
        Block("Title", 1),
        Block("Some bold link and a picture."),
        Block("Sub", 2),
        Block("# no heading\n\nx = 1"),
        Block("#no heading either"),
    ]


HTML = """<!DOCTYPE html><html><head><title>The &amp; title</title><style>p { color: red }</style>
<script>if (a < b) { alert("hidden") }</script></head><body><nav>menu</nav><h1>Head<em>ing</em></h1>
<p>One&nbsp;paragraph
 over lines.<br>After a break. <img src="x" alt="A cat"></p><div>Loose <template>hidden</template>text<ul><li>item</ul></div>
<table><tr><th>Name<th>Size</tr><tr><td>hub</td><td>250</td></tr></table><noscript>hidden</noscript><p>Not closed"""


@pytest.mark.parametrize("name", ["a.html", "A.HTM", "page"])
def test_html_yields_the_visible_text(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, HTML) == [
        Block("The & title", 1),
        Block("Heading", 1),
        Block("One paragraph over lines."),
        Block("After a break. A cat"),
        Block("Loose text"),
        Block("item"),
        Block("Name Size"),
        Block("hub 250"),
        Block("Not closed"),
    ]


def test_html_is_decoded_in_its_declared_character_set(tmp_path: Path) -> None:
    page = '<html><head><meta charset="iso-8859-2"></head><body><p>Łódź</p></body></html>'
    assert read(tmp_path, "a.html", page.encode("iso-8859-2")) == [Block("Łódź")]


def test_unclosed_markup_hides_no_text(tmp_path: Path) -> None:
    page = "<html><head><title>T</title><body><div><p>seen</div></p></section><p>seen too"
    assert read(tmp_path, "a.html", page) == [Block("T", 1), Block("seen"), Block("seen too")]


@pytest.mark.parametrize("name", ["a.pdf", "scan"])
def test_a_pdf_is_read_page_by_page(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, name, pdf("First page,\nwrapped here.", "", "Third page."))
    assert found == [Block("First page, wrapped here."), Block("Third page.")]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"no pdf at all", "not a readable PDF"),
        ("a.pdf", pdf("text")[:-200], "not a readable PDF"),
        ("a.pdf", b"", "not a readable PDF"),
        ("a.pdf", pdf("", ""), "OCR"),
        ("a.pdf", encrypted(pdf("text"), "secret"), "password"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not text"),
        ("a.docx", b"PK\x03\x04\x14\x00\x00\x00", "not text"),
        ("a.html", b"<p>\x00\x01</p>", "not text"),
    ],
)
def test_an_unreadable_document_says_why(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    with pytest.raises(UnreadableDocumentError, match=re.escape(why)):
        read(tmp_path, name, content)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_an_empty_document_has_no_blocks(tmp_path: Path, name: str) -> None:
    for content in (b"", b" \n\n ", b"\xef\xbb\xbf"):
        assert read(tmp_path, name, content) == []
