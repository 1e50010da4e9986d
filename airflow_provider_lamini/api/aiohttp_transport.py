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

    import aiohttp

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.api.transfer import Transfer


def fast_transport(
    settings: ClientSettings, tls: ssl.SSLContext, limits: httpx.Limits
) -> FastTransport | None:
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
    return FastTransport(tls, limits)


class FastTransport(httpx.AsyncBaseTransport):
    """httpx's requests over aiohttp, with errors that say what has happened.

    :param tls: how certificates are checked
    :param limits: of connections
    """

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        from httpx_aiohttp import AiohttpTransport

        self._tls = tls
        self._limits = limits
        self._opened: aiohttp.ClientSession | None = None
        self._inner = AiohttpTransport(verify=tls, client=self.session)

    def session(self) -> aiohttp.ClientSession:
        """The one pool of connections, made by the first request: it belongs to that one's event loop."""
        if self._opened is None:
            import aiohttp

            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._tls,
                    limit=self._limits.max_connections or 0,
                    keepalive_timeout=self._limits.keepalive_expiry,
                ),
                cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),  # as httpx keeps cookies
                auto_decompress=False,
            )
        return self._opened

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of httpx."""
        with _told_apart():
            response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the types
        response.stream = _Body(response.stream)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()


class Looks:
    """Carries out calls that read one small thing from the platform, past httpx, which is most of their cost.

    :param transport: with the connections
    :param request: one to the platform's address, as httpx would send it: its headers and timeouts are every look's
    """

    def __init__(self, transport: FastTransport, request: httpx.Request) -> None:
        from multidict import CIMultiDict

        self._session = transport.session
        self._base = str(request.url).rstrip("/")
        self._headers = CIMultiDict(request.headers.multi_items())
        self._connect: float = request.extensions["timeout"]["connect"]
        self._timeout: tuple[float, aiohttp.ClientTimeout] | None = None

    async def carry_out(self, fetch: Transfer, path: str) -> None:
        """Send a ``GET`` and take its answer.

        :param fetch: the step, told of the answer
        :param path: below the platform's address
        :raises httpx.HTTPError: where there was no answer, or not all of it
        """
        from yarl import URL

        try:
            async with self._session().get(
                URL(self._base + path, encoded=True),
                headers=self._headers,
                timeout=self._patience(fetch.timeout),
                allow_redirects=False,
            ) as response:
                if "Content-Encoding" in response.headers:
                    await _decoded(response, fetch)
                    return
                fetch.begin(response.status, response.raw_headers)
                while block := await response.content.readany():
                    if not fetch.take(block):
                        break
        except Exception:
            with _told_apart(), _as_httpx():
                raise

    def _patience(self, seconds: float) -> aiohttp.ClientTimeout:
        if self._timeout is None or self._timeout[0] != seconds:
            import aiohttp

            timeout = aiohttp.ClientTimeout(sock_connect=self._connect, sock_read=seconds, connect=seconds)
            self._timeout = seconds, timeout
        return self._timeout[1]


async def _decoded(response: aiohttp.ClientResponse, fetch: Transfer) -> None:
    """Take a compressed answer as httpx does."""
    from httpx_aiohttp.transport import AiohttpResponseStream

    answer = httpx.Response(
        response.status, headers=response.raw_headers, stream=AiohttpResponseStream(response)
    )
    fetch.begin(answer.status_code, answer.headers.raw)
    async for block in answer.aiter_bytes():
        if not fetch.take(block):
            break


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
def _as_httpx() -> Iterator[None]:
    from httpx_aiohttp.transport import map_aiohttp_exceptions

    with map_aiohttp_exceptions():
        yield


@contextmanager
def _told_apart() -> Iterator[None]:
    """Whatever aiohttp says of a connection comes as the timeout of its making, which most of it is not.

    What is no HTTP comes as an error of aiohttp's own.
    """
    import aiohttp

    try:
        yield
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError("no HTTP") from error
    except httpx.ConnectTimeout as error:
        cause = error.__cause__
        if isinstance(cause, aiohttp.ServerTimeoutError):
            raise
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            raise httpx.ConnectError("no trust") from cause.certificate_error
        if isinstance(cause, aiohttp.ClientConnectorError):
            raise httpx.ConnectError("no connection") from cause.os_error
        raise httpx.ReadError("the connection was lost") from cause
