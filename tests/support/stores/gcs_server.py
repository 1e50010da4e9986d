"""A server with the calls of Google Cloud Storage's JSON API that its file system makes: ``python gcs_server.py PORT BUCKET``.

The emulators in the package registries accept the condition of an upload (``ifGenerationMatch``) and ignore it, so none of them
can show that conditional creation works. Objects are in memory.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import md5
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

Json = dict[str, Any]


class Refusal(Exception):  # noqa: N818 - a response, not a failure of the server
    """An error response.

    :param status: HTTP status
    """

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object.

    :param name: its name
    :param content: its content
    :param generation: number of the write that created it
    """

    name: str
    content: bytes
    generation: int

    def metadata(self, bucket: str) -> Json:
        """What the API says about it."""
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": self.name,
            "size": str(len(self.content)),
            "generation": str(self.generation),
            "metageneration": "1",
            "md5Hash": b64encode(md5(self.content, usedforsecurity=False).digest()).decode(),
            "updated": "2026-01-02T03:04:05.000Z",
        }


@dataclass(slots=True)
class Upload:
    """A resumable upload.

    :param name: the object
    :param condition: the generation that the object must have; ``None`` for any
    :param content: what has arrived
    """

    name: str
    condition: str | None
    content: bytes = b""


@dataclass(slots=True)
class Bucket:
    """The bucket.

    :param name: its name
    """

    name: str
    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _generations: count[int] = field(default_factory=lambda: count(1))

    def insert(self, name: str, content: bytes, condition: str | None) -> Json:
        """Write an object; 412 if it has another generation than the condition says (0: it must not exist)."""
        with self.lock:
            found = self.objects.get(name)
            if condition is not None and int(condition) != (found.generation if found else 0):
                raise Refusal(HTTPStatus.PRECONDITION_FAILED)
            self.objects[name] = StoredObject(name, content, next(self._generations))
            return self.objects[name].metadata(self.name)

    def get(self, name: str) -> StoredObject:
        """Find an object; 404 if there is none."""
        with self.lock:
            if name not in self.objects:
                raise Refusal(HTTPStatus.NOT_FOUND)
            return self.objects[name]

    def delete(self, name: str) -> None:
        """Remove an object; 404 if there is none."""
        with self.lock:
            if self.objects.pop(name, None) is None:
                raise Refusal(HTTPStatus.NOT_FOUND)

    def list(self, prefix: str, delimiter: str, maximum: int) -> Json:
        """List objects, and with a delimiter what their names have in common up to it."""
        items, prefixes = [], dict[str, None]()
        with self.lock:
            for name in sorted(self.objects):
                if not name.startswith(prefix):
                    continue
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if found:
                    prefixes[f"{prefix}{head}{delimiter}"] = None
                else:
                    items.append(self.objects[name].metadata(self.name))
        return {"kind": "storage#objects", "items": items[:maximum], "prefixes": list(prefixes)[:maximum]}


class Handler(BaseHTTPRequestHandler):
    """Answers requests.

    :cvar bucket: the only bucket
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    bucket: Bucket

    def handle_call(self) -> None:
        """Answer a request, or say why not."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        try:
            found = re.fullmatch(r"/(?:(upload|download)/)?storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", parts.path)
            if parts.path == "/resume":
                self._continue(query["id"], body)
            elif found is None or unquote(found[2]) != self.bucket.name:
                self._answer({}, HTTPStatus.NOT_FOUND)
            elif found[1] == "upload":
                self._upload(query, body)
            elif found[3]:
                self._object(unquote(found[3]), query)
            elif parts.path.endswith("/o"):
                prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
                self._answer(self.bucket.list(prefix, delimiter, int(query.get("maxResults", 5000))))
            else:
                self._answer({"kind": "storage#bucket", "name": self.bucket.name})
        except Refusal as refusal:
            error = {"error": {"code": refusal.status.value, "message": refusal.status.phrase}}
            self._answer(error, refusal.status)

    do_GET = do_POST = do_PUT = do_DELETE = handle_call  # noqa: N815 - the names that the base class calls

    def _object(self, name: str, query: dict[str, str]) -> None:
        """Remove an object, or answer its content, a part of it or its metadata."""
        if self.command == "DELETE":
            self.bucket.delete(name)
            self._send(b"", HTTPStatus.NO_CONTENT)
            return
        found = self.bucket.get(name)
        if query.get("alt") != "media":
            self._answer(found.metadata(self.bucket.name))
        elif part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            end = int(part[2]) + 1 if part[2] else len(found.content)
            self._send(found.content[int(part[1]) : end], HTTPStatus.PARTIAL_CONTENT)
        else:
            self._send(found.content)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        """Write an object, or begin to."""
        condition = query.get("ifGenerationMatch")
        if query["uploadType"] == "resumable":
            number = str(len(self.bucket.uploads))
            self.bucket.uploads[number] = Upload(query["name"], condition)
            location = f"http://{self.headers['Host']}/resume?id={number}"
            self._send(b"", headers={"Location": location})
            return
        _, boundary = self.headers["Content-Type"].split("boundary=")
        mark = b"--" + boundary.strip('"').encode()
        head, content = (
            body.removeprefix(mark + b"\n").removesuffix(b"\n" + mark + b"--").split(b"\n" + mark + b"\n", 1)
        )
        name = json.loads(head.partition(b"\n\n")[2])["name"]
        self._answer(self.bucket.insert(name, content.partition(b"\n\n")[2], condition))

    def _continue(self, number: str, body: bytes) -> None:
        """Take the next bytes of an upload."""
        upload = self.bucket.uploads[number]
        upload.content += body
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total != str(len(upload.content)):
            last = len(upload.content) - 1
            self._send(b"", HTTPStatus.PERMANENT_REDIRECT, {"Range": f"bytes=0-{last}"})
            return
        del self.bucket.uploads[number]
        self._answer(self.bucket.insert(upload.name, upload.content, upload.condition))

    def _answer(self, content: Json, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

    def _send(
        self, content: bytes, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main(port: str, bucket: str) -> None:
    """Serve until the process is ended."""
    Handler.bucket = Bucket(bucket)
    ThreadingHTTPServer.request_queue_size = 64
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
