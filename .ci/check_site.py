"""Check that the pages of the documentation site load nothing from elsewhere: ``check_site.py FOLDER``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"""<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)\s*=\s*["']?((?:https?:)?//[^"' >]+)"""
)
IMPORTED = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')]+)""")


def loads(file: Path) -> list[str]:
    """Return the addresses on other hosts that a page or a style sheet loads.

    :param file: an HTML or CSS file
    """
    return (LOADED if file.suffix == ".html" else IMPORTED).findall(file.read_text(encoding="utf-8"))


def main(folder: Path) -> int:
    """Check all files in a folder and return the exit status."""
    files = [*folder.rglob("*.html"), *folder.rglob("*.css")]
    problems = [f"{file} loads {address}" for file in files for address in loads(file)]
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"The site has {sum(file.suffix == '.html' for file in files)} pages: open {folder}/index.html")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
