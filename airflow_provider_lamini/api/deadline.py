"""A deadline for responses to blocking requests.

httpx only limits each read: a server that sends a byte now and then, or one hint after the other before its response, would
keep a request for ever.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    import httpx


class Deadline(threading.local):
    """When the response to the current request of a thread must be complete."""

    _seconds = math.inf
    _ends: float | None = None

    def start(self, seconds: float) -> None:
        """Start a request.

        :param seconds: how long its response may take, from the first read
        """
        self._seconds, self._ends = seconds, None

    def left(self) -> float:
        """Return the seconds until the deadline."""
        now = time.monotonic()
        if self._ends is None:
            self._ends = now + self._seconds
        return self._ends - now


def set_deadline(transport: httpx.HTTPTransport, deadline: Deadline) -> None:
    """Make all connections of a transport observe a deadline.

    :param transport: a transport that has no connections yet
    :param deadline: the deadline of each thread's current request
    """
    pool: Any = transport._pool  # noqa: SLF001 - httpx has no public way; a test notices if this stops working
    pool._network_backend = _Backend(pool._network_backend, deadline)  # noqa: SLF001 - the same


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._backend = backend
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self.write = stream.write  # type: ignore[method-assign]
        self.close = stream.close  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.left()
        if left <= 0:
            raise httpcore.ReadTimeout("the response is too slow")
        return self._stream.read(max_bytes, left if timeout is None else min(timeout, left))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)
