"""The transport of the extra ``fast``: httpx's requests over aiohttp, with errors that say what has happened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class OverAiohttp(AiohttpTransport):
    """Sends requests over aiohttp."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the body of its answer is still unread."""
        with _told_apart():
            response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the types
        response.stream = _Body(response.stream)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told_apart():
            async for block in self._stream:
                yield block

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Whatever aiohttp says of a connection comes as the timeout of its making, which most of it is not."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        cause = error.__cause__
        if isinstance(cause, aiohttp.ServerTimeoutError):
            raise
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            raise httpx.ConnectError("no trust") from cause.certificate_error
        if isinstance(cause, aiohttp.ClientConnectorError):
            raise httpx.ConnectError("no connection") from cause.os_error
        raise httpx.ReadError("the connection was lost") from cause
