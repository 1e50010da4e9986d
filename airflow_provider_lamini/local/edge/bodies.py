"""Bounds on request bodies: their size, the time they take to arrive, and what they hold in memory together."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from airflow_provider_lamini.local.edge.json_bodies import check_json
from airflow_provider_lamini.local.edge.limits import BODIES_IN_MEMORY, MIB, MIN_RATE, Limits, is_upload

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OTHER_MEDIA = ("multipart/", "application/octet-stream")


class BoundBodies:
    """Bounds the body of each request when its endpoint begins to read it.

    A body is read and checked as a whole before the endpoint gets it, unless the endpoint takes an upload. What breaks
    a bound raises an ``HTTPException``, which becomes a response like every other.

    :param app: the wrapped app
    :param limits: the bounds
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._memory = _Memory(BODIES_IN_MEMORY * limits.max_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        body = _Body(scope, receive, self._limits, self._memory)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class _Memory:
    """Bytes that all bodies in memory take, and their maximum."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._used = 0

    def take(self, size: int) -> None:
        """Take memory.

        :raises HTTPException: there is not enough
        """
        if self._used + size > self._maximum:
            raise HTTPException(
                503, "The platform is busy with other large requests: try again.", {"Retry-After": "1"}
            )
        self._used += size

    def give_back(self, size: int) -> None:
        """Give memory back."""
        self._used -= size


class _Body:
    """The body of one request while it arrives."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, memory: _Memory) -> None:
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._memory = memory
        self._start: float | None = None
        self._size = 0
        self._taken = 0
        self._content = bytearray()
        self._ended = False

    async def receive(self) -> Message:
        """Return the next message of the server, with a body that is within its bounds.

        :raises HTTPException: it is not
        """
        if self._ended:
            return await self._receive()
        upload = is_upload(self._scope)
        maximum = self._limits.max_upload if upload else self._limits.max_body
        if self._start is None:
            self._start = time.monotonic()
            self._check_size(self._announced_size(), maximum)
        while True:
            message = await self._next_message()
            self._ended = message["type"] != "http.request" or not message.get("more_body", False)
            if message["type"] != "http.request":
                return message
            self._size += len(message["body"])
            self._check_size(self._size, maximum)
            if upload:
                return message
            self._keep(message["body"])
            if self._ended:
                return {**message, "body": self._checked_content()}

    def release(self) -> None:
        """Give back the memory of the body."""
        self._memory.give_back(self._taken)
        self._taken = 0

    def _announced_size(self) -> int:
        length = Headers(scope=self._scope).get("content-length", "")
        return int(length) if length.isdecimal() and len(length) < 20 else 0  # noqa: PLR2004 - more digits than any size

    def _check_size(self, size: int, maximum: int) -> None:
        if size > maximum:
            raise HTTPException(
                413, f"The body is larger than {maximum / MIB:g} MiB, the limit of this endpoint."
            )

    async def _next_message(self) -> Message:
        # Not wait_for, which would yield to the event loop even if the message is there.
        started = self._start or 0.0
        allowed = self._limits.client_timeout + self._size / MIN_RATE
        try:
            async with asyncio.timeout(max(0.001, started + allowed - time.monotonic())):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(
                408,
                f"The body did not arrive in time: after {self._limits.client_timeout:g} s, "
                f"clients must have sent at least {MIN_RATE} bytes a second.",
                {"Connection": "close"},
            ) from None

    def _keep(self, piece: bytes) -> None:
        self._memory.take(len(piece))
        self._taken += len(piece)
        self._content += piece

    def _checked_content(self) -> bytes:
        content, self._content = bytes(self._content), bytearray()
        kind = Headers(scope=self._scope).get("content-type", "")
        if content and not kind.lower().startswith(_OTHER_MEDIA):
            check_json(content)
        return content
