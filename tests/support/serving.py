"""HTTP servers on loopback, each in a thread: for the fake platforms and stores of tests, and for the files of a folder."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread during the block.

    :param server: the server, bound to a port on loopback
    :return: its address without a scheme, for example ``127.0.0.1:40001``
    """
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


class _FileHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """Serve a folder during the block.

    :param folder: the folder; new files are served immediately
    :return: URL of the site
    """
    with served(
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_FileHandler, directory=str(folder)))
    ) as address:
        yield f"http://{address}"
