"""A cheaper way to send requests from an event loop, where the extra ``fast`` is installed."""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import getproxies

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from airflow_provider_lamini.api.settings import ClientSettings


def fast_transport(
    settings: ClientSettings, tls: ssl.SSLContext, limits: httpx.Limits
) -> httpx.AsyncBaseTransport | None:
    """Requests over aiohttp, which reads and writes HTTP in C; for an `httpx.AsyncClient`.

    Only for what may be repeated: its errors do not tell for sure whether a request had reached the platform. Proxies
    are left to httpx, which knows all the ways in which they are set.

    :param settings: how to reach the platform
    :param tls: how certificates are checked
    :param limits: of connections
    :return: the transport; ``None`` where the extra is not installed, or a proxy is set
    """
    if settings.proxy or getproxies() or importlib.util.find_spec("httpx_aiohttp") is None:
        return None
    from httpx_aiohttp import AiohttpTransport

    return _OverAiohttp(AiohttpTransport(verify=tls, limits=limits))


class _OverAiohttp(httpx.AsyncBaseTransport):
    """httpx's requests over aiohttp, with errors that say what has happened."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _told_apart():
            response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the types
        response.stream = _Body(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


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
        import aiohttp

        cause = error.__cause__
        if isinstance(cause, aiohttp.ServerTimeoutError):
            raise
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            raise httpx.ConnectError("no trust") from cause.certificate_error
        if isinstance(cause, aiohttp.ClientConnectorError):
            raise httpx.ConnectError("no connection") from cause.os_error
        raise httpx.ReadError("the connection was lost") from cause
