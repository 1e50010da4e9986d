"""The toy platform's server on loopback. Jobs end when the test says so."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "toy-key-0123456789"


@dataclass
class ToyServer:
    """What the server knows and has received.

    :param url: its address
    :param runs: training runs by id
    :param bulks: bulk orders by id
    :param requests: method, path and headers (lower case) of each request
    :param respond: while it is clear, accepted submissions get no response
    :param fail: statuses of the next responses
    """

    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    bulks: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    respond: threading.Event = field(default_factory=threading.Event)
    fail: list[int] = field(default_factory=list)

    def count(self, method: str, path: str) -> int:
        """Count requests whose path starts with ``path``."""
        return sum(1 for one, other, _ in list(self.requests) if one == method and other.startswith(path))

    def finish(self) -> None:
        """End all jobs."""
        for job in (*self.runs.values(), *self.bulks.values()):
            job["phase"] = "served"
        for bulk in self.bulks.values():
            bulk.update(finished=bulk["of"], out=[line.upper() for line in bulk["lines"]])

    def handle(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, object]:
        """Return status and body of a response."""
        self.requests.append((method, path, headers))
        if headers.get("x-toy-key") != KEY:
            return 401, {"error": "wrong key"}
        if self.fail:
            return self.fail.pop(0), {"error": "as the test says"}
        if path == "/ping":
            return 200, {"kitchen": "open"}
        return self._handle_jobs(method, path, body)

    def _handle_jobs(self, method: str, path: str, body: Any) -> tuple[int, object]:
        name, *rest = path.strip("/").split("/")
        jobs = self.runs if name == "runs" else self.bulks
        if method == "POST" and not rest:
            job_id = f"{name}-{len(jobs) + 1}"
            job = {"run": job_id, "bulk": job_id, "phase": "cooking", "percent": 40, **body}
            jobs[job_id] = job | {"finished": 0, "of": len(body.get("lines", ())), "out": []}
            self.respond.wait(30)
            return 200, jobs[job_id]
        if not rest:
            return 200, {name: list(jobs.values())}
        if rest[0] not in jobs:
            return 460, {"error": f"no {name} {rest[0]}"}
        if rest[1:] == ["stop"]:
            jobs[rest[0]]["phase"] = "thrown away"
        return 200, jobs[rest[0]]


@contextmanager
def toy_server() -> Iterator[ToyServer]:
    """Run the server in threads of this process."""
    state = ToyServer()
    state.respond.set()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def respond(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = state.handle(self.command, self.path, headers, body)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = respond  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients are killed in these tests."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.respond.set()
        server.shutdown()
        thread.join()
        server.server_close()
