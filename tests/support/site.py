"""Serves a folder as a web site on loopback."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """Serve a folder during the block.

    :param folder: the folder; new files are served immediately
    :return: URL of the site
    """
    with served(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))) as address:
        yield f"http://{address}"
