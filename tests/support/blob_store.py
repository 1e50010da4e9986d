"""A fake Azure blob store on loopback: block blobs, signed URLs, and the service's rules for uploads."""

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
    """A fake blob store.

    :ivar url: its base URL
    :ivar blobs: committed blobs by path
    :ivar requests: method, path and query of each request
    :ivar fail_next: statuses of the next responses; these requests are not processed
    :ivar refused: reasons of rejected requests
    :ivar headers: headers of each request
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
        """Return a signed URL that allows writing a blob.

        :param path: path of the blob, with a leading slash
        """
        return f"{self.url}{path}?sv=2024-08-04&se=2099-01-01T00%3A00%3A00Z&sp=cw&sig={SIGNATURE}"

    def put(self, target: str, headers: dict[str, str], body: bytes) -> int:
        """Process one PUT request.

        :param target: path and query of the URL
        :param headers: headers with lower-case names
        :param body: the body
        :return: status of the response
        """
        parts = urlsplit(target)
        self.requests.append(("PUT", parts.path, parts.query))
        self.headers.append(headers)
        if self.fail_next:
            return self.fail_next.pop(0)
        if f"sig={SIGNATURE}" not in parts.query.split("&"):
            return self._refuse(403, "the signature is wrong")
        query = parse_qs(parts.query)
        handle = {None: self._put_blob, "block": self._put_block, "blocklist": self._put_block_list}.get(
            query.get("comp", [None])[0]
        )
        return handle(parts.path, query, headers, body) if handle else self._refuse(400, "unknown comp")

    def _put_blob(self, path: str, _: dict[str, list[str]], headers: dict[str, str], body: bytes) -> int:
        if headers.get("x-ms-blob-type") != "BlockBlob":
            return self._refuse(400, "x-ms-blob-type is missing")
        self.blobs[path] = body
        return 201

    def _put_block(self, path: str, query: dict[str, list[str]], _: dict[str, str], body: bytes) -> int:
        name = query["blockid"][0]
        blocks = self._blocks.setdefault(path, {})
        try:
            base64.b64decode(name, validate=True)
        except binascii.Error:
            return self._refuse(400, "a block id is not base64")
        if any(len(other) != len(name) for other in blocks):
            return self._refuse(400, "block ids have different lengths")
        if not body:
            return self._refuse(400, "a block is empty")
        blocks[name] = body
        return 201

    def _put_block_list(self, path: str, _: dict[str, list[str]], __: dict[str, str], body: bytes) -> int:
        names = [entry.text or "" for entry in ET.fromstring(body).iter("Latest")]
        blocks = self._blocks.pop(path, {})
        if any(name not in blocks for name in names):
            return self._refuse(400, "the list contains a block that was not uploaded")
        self.blobs[path] = b"".join(blocks[name] for name in names)
        return 201

    def _refuse(self, status: int, reason: str) -> int:
        self.refused.append(reason)
        return status


@contextmanager
def blob_store() -> Iterator[BlobStore]:
    """Serve a store during the block."""
    store = BlobStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_PUT(self) -> None:
            length = self.headers["Content-Length"]
            body = self.rfile.read(int(length)) if length else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = 411 if length is None else store.put(self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with served(server) as address:
        store.url = f"http://{address}"
        yield store
