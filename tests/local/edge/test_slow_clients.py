"""Clients that are slow, or ambiguous about where a request ends, lose their connection and hold nobody up."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from tests.support.local_platform import LocalPlatform

pytestmark = pytest.mark.faults

PATIENCE = 20.0
"""Longest time that a test waits; the platform waits half a second for clients."""


def connect(platform: LocalPlatform) -> socket.socket:
    url = urlsplit(platform.url)
    assert url.hostname
    return socket.create_connection((url.hostname, url.port or 80), timeout=PATIENCE)


def head(platform: LocalPlatform, *lines: str, path: str = "/v1/embedding") -> bytes:
    fields = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {platform.key}", *lines]
    return "\r\n".join([*fields, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything that arrives until the platform closes the connection."""
    received = b""
    while True:
        try:
            piece = connection.recv(1 << 16)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def trickle(connection: socket.socket, piece: bytes) -> None:
    """Send a piece again and again, slowly, until the platform closes the connection."""
    for _ in range(200):
        connection.sendall(piece)
        time.sleep(0.05)


def flood(connection: socket.socket, requests: bytes, deadline: float) -> None:
    """Send requests without reading, until the platform closes the connection or reads no more."""
    while time.monotonic() < deadline:
        connection.sendall(requests)


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_client_that_does_not_finish_its_headers_is_disconnected(
    small_limits: LocalPlatform, sent: bytes
) -> None:
    with closing(connect(small_limits)) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - began < PATIENCE / 2


def test_sending_headers_byte_by_byte_does_not_help(small_limits: LocalPlatform) -> None:
    with closing(connect(small_limits)) as connection:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            trickle(connection, b"X")
        assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("path", ["/v1/embedding", "/v1/local-data"])
def test_a_body_that_does_not_arrive_is_answered_with_408(small_limits: LocalPlatform, path: str) -> None:
    with closing(connect(small_limits)) as connection:
        connection.sendall(
            head(small_limits, "Content-Type: application/json", "Content-Length: 100000", path=path) + b"{"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_a_body_that_trickles_in_is_answered_with_408(small_limits: LocalPlatform) -> None:
    with closing(connect(small_limits)) as connection:
        connection.sendall(head(small_limits, "Content-Type: application/json", "Content-Length: 100000"))
        connection.settimeout(0.05)
        response = b""
        for _ in range(200):
            connection.sendall(b" ")
            try:
                response = connection.recv(1 << 16)
                break
            except TimeoutError:
                continue
        assert response.startswith(b"HTTP/1.1 408")


def test_a_client_that_does_not_read_a_response_is_disconnected(small_limits: LocalPlatform) -> None:
    with small_limits.client() as http:
        job = http.post(
            "/v1/batch_completions", json={"model_name": small_limits.models[0], "prompt": ["a b"]}
        )
        path = f"/v1/batch_completions/{job.json()['id']}/result"
    with closing(connect(small_limits)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = head(small_limits, path=path).replace(b"POST", b"GET")
        connection.settimeout(1)
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(OSError, match=r"Broken pipe|reset|timed out"):
            flood(connection, request * 200, deadline)
    with small_limits.client() as http:
        assert http.get("/healthz").status_code == 200


def test_content_length_beside_transfer_encoding_is_refused(small_limits: LocalPlatform) -> None:
    with closing(connect(small_limits)) as connection:
        connection.sendall(
            head(small_limits, "Content-Length: 5", "Transfer-Encoding: chunked")
            + b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
        )
        response = read_all(connection)
    assert response.startswith(b"HTTP/1.1 400")
    assert response.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: +5",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: gzip",),
        ("Bad Header: x",),
    ],
)
def test_malformed_headers_are_refused(small_limits: LocalPlatform, lines: tuple[str, ...]) -> None:
    with closing(connect(small_limits)) as connection:
        connection.sendall(head(small_limits, *lines) + b"abcde")
        status = int(read_all(connection).split(b" ")[1])
    assert 400 <= status < 500 or status == 501


def test_a_large_body_without_the_key_is_not_read(small_limits: LocalPlatform) -> None:
    with closing(connect(small_limits)) as connection:
        lines = head(small_limits, "Content-Length: 100000000").replace(small_limits.key.encode(), b"wrong")
        connection.sendall(lines + b"x" * 1000)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")
        read_all(connection)


def test_slow_clients_hold_up_nobody(small_limits: LocalPlatform) -> None:
    slow = [connect(small_limits) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    with small_limits.client() as http:
        began = time.monotonic()
        assert http.get("/healthz").status_code == 200
        assert time.monotonic() - began < 2
    for connection in slow:
        read_all(connection)
        connection.close()
