"""A stand-in for an Azure blob store on loopback: block blobs, signed URLs, and the rules that uploads must keep."""

from __future__ import annotations

import base64
import binascii
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = "sig%2Bwith%2Fodd%3Dcharacters"


class BlobStore:
    """The store.

    :ivar url: its address
    :ivar blobs: what is committed, by path
    :ivar requests: method, path and query of each request
    :ivar fail_next: statuses that the next requests are answered with
    :ivar refused: why requests were refused
    """

    def __init__(self) -> None:
        self.url = ""
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.fail_next: list[int] = []
        self.refused: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._blocks: dict[str, dict[str, bytes]] = {}

    def signed(self, path: str) -> str:
        """A URL that allows to write a blob.

        :param path: the blob's, with a leading slash
        """
        return f"{self.url}{path}?sv=2024-08-04&se=2099-01-01T00%3A00%3A00Z&sp=cw&sig={SIGNATURE}"

    def put(self, target: str, headers: dict[str, str], body: bytes) -> int:
        """Carry one request out.

        :returns: the status of the answer
        """
        parts = urlsplit(target)
        self.requests.append(("PUT", parts.path, parts.query))
        self.headers.append(headers)
        if self.fail_next:
            return self.fail_next.pop(0)
        if f"sig={SIGNATURE}" not in parts.query.split("&"):
            return self._refuse(403, "the signature is wrong")
        asked = parse_qs(parts.query)
        act = {None: self._whole, "block": self._block, "blocklist": self._commit}.get(
            asked.get("comp", [None])[0]
        )
        return act(parts.path, asked, headers, body) if act else self._refuse(400, "comp is not known")

    def _whole(self, path: str, _: dict[str, list[str]], headers: dict[str, str], body: bytes) -> int:
        if headers.get("x-ms-blob-type") != "BlockBlob":
            return self._refuse(400, "x-ms-blob-type is missing")
        self.blobs[path] = body
        return 201

    def _block(self, path: str, asked: dict[str, list[str]], _: dict[str, str], body: bytes) -> int:
        name = asked["blockid"][0]
        blocks = self._blocks.setdefault(path, {})
        try:
            base64.b64decode(name, validate=True)
        except binascii.Error:
            return self._refuse(400, "a block's id is no base64")
        if any(len(other) != len(name) for other in blocks):
            return self._refuse(400, "the ids of blocks have several lengths")
        if not body:
            return self._refuse(400, "a block is empty")
        blocks[name] = body
        return 201

    def _commit(self, path: str, _: dict[str, list[str]], __: dict[str, str], body: bytes) -> int:
        names = [entry.text or "" for entry in ET.fromstring(body).iter("Latest")]
        blocks = self._blocks.pop(path, {})
        if any(name not in blocks for name in names):
            return self._refuse(400, "a block of the list was not uploaded")
        self.blobs[path] = b"".join(blocks[name] for name in names)
        return 201

    def _refuse(self, status: int, why: str) -> int:
        self.refused.append(why)
        return status


@contextmanager
def blob_store() -> Iterator[BlobStore]:
    """Serve a store."""
    store = BlobStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            length = self.headers["Content-Length"]
            body = self.rfile.read(int(length)) if length else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = 411 if length is None else store.put(self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """The test prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with served(server) as address:
        store.url = f"http://{address}"
        yield store
