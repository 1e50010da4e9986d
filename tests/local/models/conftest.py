"""Fixtures: small fake model files and wheels, and a model hub on loopback."""

from __future__ import annotations

import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GGUF = b"GGUF" + bytes(range(256)) * 40


class Hub(ThreadingHTTPServer):
    """A fake model hub.

    :ivar files: path to content
    :ivar failures: statuses to answer the next requests with; 0 closes the connection halfway through the file
    :ivar seen: path and Authorization header of each request
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.files: dict[str, bytes] = {}
        self.failures: list[int] = []
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    server: Hub

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        hub = self.server
        hub.seen.append((self.path, self.headers.get("Authorization")))
        failure = hub.failures.pop(0) if hub.failures else None
        content = hub.files.get(self.path)
        if failure:
            content, status = b"no", failure
        elif content is None:
            content, status = b"no", 404
        else:
            status = 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if failure == 0:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A fake hub, set as ``HF_ENDPOINT``."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def gguf() -> bytes:
    """Content that starts like a GGUF file."""
    return GGUF


@pytest.fixture
def build_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that builds a wheel with the given files, which pip accepts."""

    def build(files: dict[str, bytes], name: str = "tiny_model", version: str = "1.0") -> Path:
        folder = tmp_path / "wheels"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        members = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
        record = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in {**members, f"{info}/RECORD": record.encode()}.items():
                archive.writestr(member, content)
        return path

    return build
