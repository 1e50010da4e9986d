"""The text of a PDF, page by page."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pypdf

from airflow_provider_lamini.local.rag.extract import UnreadableDocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It warns of every oddity of a file that it reads all the same.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def pages_of_pdf(path: Path) -> Iterator[str]:
    """The text of each page.

    :param path: the file
    :raises UnreadableDocumentError: it is broken, or locked with a password
    """
    locked = False
    try:
        with path.open("rb") as file:
            reader = pypdf.PdfReader(file)
            locked = reader.is_encrypted and not reader.decrypt("")
            for page in () if locked else reader.pages:
                yield page.extract_text()
    except Exception as error:
        # A broken file can break the reader anywhere: it raises much beside its own kinds.
        raise UnreadableDocumentError(f"it is no PDF that can be read ({type(error).__name__})") from error
    if locked:
        raise UnreadableDocumentError("it is locked with a password")
