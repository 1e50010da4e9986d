"""Documents that break something: broken files, and texts that are hard to parse."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from tests.support.pdf import pdf

if TYPE_CHECKING:
    from random import Random

PIECES = (
    *(
        "<!-- a -->",
        "<a ",
        "</b>",
        "<div>",
        "<p>",
        "<ul><li>",
        "<script>",
        "<![CDATA[",
        "&",
        "<a x='",
        "<title>",
    ),
    *("**a ", "[a](", "![[", "- ", "> ", "# ", "`", "```\n", "|", "1. ", "\\", "* a\n > b\n", "---\n"),
    *("Dr. ", "a. ", ".", " ", "\n", "\n\n", "\f", "word ", "\u3002", "a" * 100, "\u00ad\n", "\U0001f600"),
)
NAMES = ("a.md", "a.html", "a.txt", "a", "../../a.md", "a\nb.md", "a.pdf", "\u202ea.md", "x" * 300)


def hostile_documents(random: Random) -> list[tuple[str, bytes]]:
    """A fresh selection of documents: name and content of each."""
    many = random.choice((10, 1000, 20_000))
    text = "".join(random.choice(PIECES) for _ in range(random.randrange(1, 2000)))
    page = bytearray(pdf("One page.", "Another page."))
    for _ in range(random.randrange(20)):
        page[random.randrange(len(page))] = random.randrange(256)
    flate = zlib.compress(text.encode())
    return [
        (random.choice(NAMES), (random.choice(PIECES) * many).encode()),
        (
            random.choice(NAMES),
            text.encode(random.choice(("utf-8", "utf-16", "utf-32", "cp1252")), errors="replace"),
        ),
        (random.choice(NAMES), random.randbytes(random.randrange(2000))),
        ("a.pdf", bytes(page)),
        ("a.pdf", bytes(page)[: random.randrange(len(page))]),
        ("a.pdf", b"%PDF-1.4\n" + flate),
    ]
