"""A fake platform on loopback whose batches end when the test says so, and which records the requests."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Platform:
    """The server's batches, faults and received requests."""

    url: str = ""
    key: str = "k1"
    rows: dict[str, list[str | None]] = field(default_factory=dict)
    fail_next: list[int] = field(default_factory=list)
    request_paths: list[str] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds until the response, by job id."""
    at_once: int = 0
    """Maximum number of simultaneous requests so far."""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, path: str, key: str) -> tuple[int, object]:
        with self._lock:
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            time.sleep(self.slow.get(path.split("/")[3], 0.0))
            return self._answer(path, key)
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, path: str, key: str) -> tuple[int, object]:
        self.request_paths.append(path)
        if self.fail_next:
            return self.fail_next.pop(0), {"detail": "injected"}
        if key != f"Bearer {self.key}":
            return 401, {"detail": "wrong key"}
        job_id = path.split("/")[3]
        if job_id not in self.rows:
            return 498, {"detail": "no such job"}
        reasons = self.rows[job_id]
        return 200, {"outputs": ["x" * 1000 for _ in reasons], "finish_reason": reasons} if reasons else {}

    def settings(self) -> ClientSettings:
        return ClientSettings(dialect=LAMINI_DIALECT, base_url=self.url, key=self.key)


@pytest.fixture
def platform() -> Iterator[Platform]:
    state = Platform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            state.connections.add(self.client_address)
            status, body = state.respond(self.path, self.headers.get("Authorization", ""))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield state
    server.shutdown()
    thread.join(5)
    server.server_close()
