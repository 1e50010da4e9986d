"""A cheaper way to send requests from an event loop, if the extra ``fast`` is installed."""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import getproxies

import httpx

from airflow_provider_lamini.api.transfer import receive

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    import aiohttp

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.api.transfer import Transfer


def fast_transport(
    settings: ClientSettings, tls: ssl.SSLContext, limits: httpx.Limits
) -> FastTransport | None:
    """Return a transport over aiohttp, which parses HTTP in C, for an `httpx.AsyncClient`.

    Only for calls that may be repeated: its errors do not say for certain whether a request reached the platform. Proxies
    need httpx, which knows all the ways to configure them.

    :param settings: how to reach the platform
    :param tls: how to verify certificates
    :param limits: limits of connections
    :return: the transport; ``None`` if the extra is not installed, or a proxy is set
    """
    if settings.proxy or getproxies() or importlib.util.find_spec("httpx_aiohttp") is None:
        return None
    return FastTransport(tls, limits)


class FastTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests over aiohttp, and raises httpx's errors.

    :param tls: how to verify certificates
    :param limits: limits of connections
    """

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        from httpx_aiohttp import AiohttpTransport

        self._tls = tls
        self._limits = limits
        self._opened: aiohttp.ClientSession | None = None
        self._inner = AiohttpTransport(verify=tls, client=self.session)

    def session(self) -> aiohttp.ClientSession:
        """Return the pool of connections; the first request creates it, because it belongs to that event loop."""
        if self._opened is None:
            import aiohttp

            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._tls,
                    limit=self._limits.max_connections or 0,
                    keepalive_timeout=self._limits.keepalive_expiry,
                ),
                cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),  # like httpx
                auto_decompress=False,
            )
        return self._opened

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one of httpx's requests."""
        with _httpx_errors():
            response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
        response.stream = _Body(response.stream)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()


class PollSender:
    """Sends plain ``GET`` requests without httpx, which is most of the cost of a poll.

    :param transport: has the connections
    :param request: a request of httpx to the base URL; all polls use its headers and timeouts
    """

    def __init__(self, transport: FastTransport, request: httpx.Request) -> None:
        from multidict import CIMultiDict

        self._session = transport.session
        self._base = str(request.url).rstrip("/")
        self._headers = CIMultiDict(request.headers.multi_items())
        self._connect: float = request.extensions["timeout"]["connect"]
        self._timeout: tuple[float, aiohttp.ClientTimeout] | None = None

    async def send(self, transfer: Transfer, path: str) -> None:
        """Send a ``GET`` and receive its response.

        :param transfer: the step; it receives the response
        :param path: path below the base URL
        :raises httpx.HTTPError: if there was no complete response
        """
        from yarl import URL

        try:
            async with self._session().get(
                URL(self._base + path, encoded=True),
                headers=self._headers,
                timeout=self._client_timeout(transfer.bounds.timeout),
                allow_redirects=False,
            ) as response:
                await receive(transfer, response.status, response.raw_headers, response.content.iter_any())
        except Exception:
            with _httpx_errors(), _as_httpx():
                raise

    def _client_timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        if self._timeout is None or self._timeout[0] != seconds:
            import aiohttp

            timeout = aiohttp.ClientTimeout(sock_connect=self._connect, sock_read=seconds, connect=seconds)
            self._timeout = seconds, timeout
        return self._timeout[1]


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for block in self._stream:
                yield block

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    from httpx_aiohttp.transport import map_aiohttp_exceptions

    with map_aiohttp_exceptions():
        yield


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise httpx's errors: httpx-aiohttp maps all connection errors to connect timeouts, which most are not.

    Invalid HTTP raises one of aiohttp's own errors.
    """
    import aiohttp

    try:
        yield
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError("not HTTP") from error
    except httpx.ConnectTimeout as error:
        cause = error.__cause__
        if isinstance(cause, aiohttp.ServerTimeoutError):
            raise
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            raise httpx.ConnectError("untrusted certificate") from cause.certificate_error
        if isinstance(cause, aiohttp.ClientConnectorError):
            raise httpx.ConnectError("no connection") from cause.os_error
        raise httpx.ReadError("the connection was lost") from cause
