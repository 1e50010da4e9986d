"""A fake platform on loopback that responds by a script: what all of them share, whatever API they speak."""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.dialect import Dialect

KEY = "a-key-for-tests"


class Refusal(Exception):  # noqa: N818 - a response, not a failure of the test
    """An error response.

    :param status: HTTP status
    :param detail: the platform's text about it
    """

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail


class ScriptedPlatform(ABC):
    """A fake platform.

    :ivar url: its base URL
    :ivar unavailable: whether to close every connection without a response, as during a restart
    :ivar drop: paths whose next POST is dropped without being processed
    :ivar lose: paths, perhaps after a method and a blank, whose next request is processed, but whose response is lost
    :ivar fail: by path, the status and detail of the next responses; these requests are not processed
    :ivar request_counts: number of requests by method and path
    :ivar bodies: path and body of each POST, in order
    """

    dialect: ClassVar[Dialect]
    conn_type: ClassVar[str]

    def __init__(self) -> None:
        self.url = ""
        self.key = KEY
        self.unavailable = False
        self.drop: list[str] = []
        self.lose: list[str] = []
        self.fail: dict[str, list[tuple[int, Any]]] = {}
        self.request_counts: Counter[str] = Counter()
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.RLock()

    @abstractmethod
    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        """Patterns of paths, and what responds there: a function of the body and the groups of the pattern."""

    def error_body(self, refusal: Refusal) -> Any:
        """The body of an error response."""
        return {"detail": refusal.detail}

    def status_of(self, method: str, path: str, body: Any) -> int:  # noqa: ARG002 - for overrides
        """The HTTP status of a successful response."""
        return 200

    def sent(self, path: str) -> list[dict[str, Any]]:
        """Return the bodies of all POST requests to a path."""
        return [body for where, body in self.bodies if where == path]

    def drops(self, method: str, path: str) -> bool:
        """Whether to drop a request without processing it."""
        if method == "POST" and path in self.drop:
            self.drop.remove(path)
            return True
        return self.unavailable

    def respond(self, method: str, path: str, key: str, content: bytes) -> Any:
        """Process one request.

        :param method: HTTP method
        :param path: path of the URL
        :param key: the header with the key
        :param content: the body
        :raises Refusal: the response is an error
        """
        with self._lock:
            self.request_counts[f"{method} {path}"] += 1
            if key != f"{self.dialect.key_prefix}{self.key}":
                raise Refusal(401, "wrong key")
            if self.fail.get(path):
                raise Refusal(*self.fail[path].pop(0))
            body = self._read(content)
            if method == "POST":
                self.bodies.append((path, body))
            for pattern, handle in self._routes(method):
                match = re.fullmatch(pattern, path)
                if match:
                    return handle(body, *match.groups())
            raise Refusal(404, "Not Found")

    def _read(self, content: bytes) -> dict[str, Any]:
        """Decode a body: JSON, or a form whose files are under ``files`` by their names."""
        if not content.startswith(b"--"):
            decoded: dict[str, Any] = json.loads(content) if content else {}
            return decoded
        boundary = content.partition(b"\r\n")[0]
        body: dict[str, Any] = {"files": {}}
        for part in content.split(boundary)[1:-1]:
            head, _, value = part.partition(b"\r\n\r\n")
            names = dict(re.findall(r'(name|filename)="([^"]*)"', head.decode()))
            value = value.removesuffix(b"\r\n")
            if "filename" in names:
                body["files"][names["filename"]] = value
            else:
                body[names["name"]] = value.decode()
        return body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    platform: ScriptedPlatform

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        platform = self.platform
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        if platform.drops(method, path):
            self._break()
            return
        try:
            key = self.headers.get(platform.dialect.key_header, "")
            result = platform.respond(method, path, key, content)
            status = platform.status_of(method, path, result)
        except Refusal as refusal:
            status, result = refusal.status, platform.error_body(refusal)
        for lost in (path, f"{method} {path}"):
            if lost in platform.lose:
                platform.lose.remove(lost)
                self._break()
                return
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            body = json.dumps(result).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != HTTPStatus.NO_CONTENT:
            self.wfile.write(body)

    def _break(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving(platform: ScriptedPlatform) -> Iterator[None]:
    """Serve a platform during the block.

    :param platform: the platform, whose ``url`` this sets
    """

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # A client opens many connections at once; one that is turned away waits a second.
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Ignore errors of connections that were closed on purpose."""

    server = Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"platform": platform}))
    with served(server) as address:
        platform.url = f"http://{address}"
        yield


def environment(platform: ScriptedPlatform, **extra: object) -> dict[str, str]:
    """Return the environment in which the platform's default connection points to it.

    :param platform: the platform to connect to
    :param extra: extras of the connection
    """
    fields = {
        "conn_type": platform.conn_type,
        "host": platform.url,
        "password": platform.key,
        "extra": {"retry_budget": 2, **extra},
    }
    return {f"AIRFLOW_CONN_{platform.conn_type.upper()}_DEFAULT": json.dumps(fields)}
