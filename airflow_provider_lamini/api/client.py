"""Clients of a platform: a blocking one and one for event loops. Both drive the same exchange."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from airflow_provider_lamini.api.aiohttp_transport import FastTransport, PollSender, fast_transport
from airflow_provider_lamini.api.content_coding import ACCEPT_ENCODING
from airflow_provider_lamini.api.deadline import Deadline, set_deadline
from airflow_provider_lamini.api.exchange import Exchange
from airflow_provider_lamini.api.request import client_timeout, platform_headers
from airflow_provider_lamini.api.transfer import Flow, Sleep, ThreadedStream, Transfer, receive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings

T = TypeVar("T")
R = TypeVar("R")

# On Airflow 2.11, httpx would log every request with its whole URL into the task's log. At DEBUG, httpcore logs response
# headers: cookies, and signed URLs of redirected downloads.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.INFO)

_IDLE_SECONDS = 3.0
"""Servers close idle connections after 5 s or more. If that happens while a request is in transit, nobody knows whether
it arrived; so the client closes them first."""

_NOTHING = httpx.ByteStream(b"")

_HEADERS = {"Accept-Encoding": ACCEPT_ENCODING}

MAX_DOWNLOAD = 100_000_000_000
"""Default maximum bytes of a download."""


class Client:
    """Sends calls and waits for their responses. Several threads may use it.

    :param settings: how to reach the platform
    :param transport: sends the requests in place of the network, for tests
    :param sleep: waits so many seconds
    :param clock: the time in seconds, from any start
    :raises ValueError: if a certificate or the proxy of the settings cannot be used
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = httpx.Client(
            transport=transport,
            verify=tls_context(settings) if transport is None else True,
            proxy=settings.proxy,
            headers=_HEADERS,
            timeout=client_timeout(settings, settings.read_timeout),
            limits=_limits(settings),
        )
        self.deadline = Deadline()
        """When the response to each thread's current request must be complete."""
        for mounted in (self._http._transport, *self._http._mounts.values()):  # noqa: SLF001 - see set_deadline
            if isinstance(mounted, httpx.HTTPTransport):
                set_deadline(mounted, self.deadline)
        self._exchange = Exchange(settings, self._http, clock)
        self._sleep = sleep

    def send(self, call: Call[T]) -> T:
        """Send a call and return its result.

        :param call: what to send
        :raises PlatformError: if it failed after all retries
        """
        return self._drive(self._exchange.send(call))

    def download(self, call: Call[object], to: BinaryIO, max_bytes: int = MAX_DOWNLOAD) -> int:
        """Send a call and write its response to a file as it arrives.

        :param call: what to send
        :param to: a file open for writing bytes
        :param max_bytes: maximum size of the response
        :returns: how many bytes were written
        :raises PlatformError: if it failed after all retries
        """
        return self._drive(self._exchange.download(call, to, max_bytes))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, flow: Flow[R]) -> R:
        with contextlib.closing(flow):
            try:
                step = next(flow)
                while True:
                    try:
                        self._carry_out(step)
                    except Exception as error:  # noqa: BLE001 - the exchange handles it
                        step = flow.throw(error)
                    else:
                        step = next(flow)
            except StopIteration as end:
                result: R = end.value
                return result

    def _carry_out(self, step: Sleep | Transfer) -> None:
        if isinstance(step, Sleep):
            self._sleep(step.seconds)
            return
        with contextlib.closing(step):
            self.deadline.start(step.bounds.max_seconds)
            response = self._http.send(step.build(), stream=True)
            try:
                _receive(step, response)
            finally:
                response.close()
                # httpx has a reference cycle of response and stream; large bodies would wait for the garbage collector.
                response.stream = _NOTHING


class AsyncClient:
    """Sends calls on an event loop without blocking it. Belongs to one loop.

    :param settings: how to reach the platform
    :param transport: sends the requests in place of the network, for tests
    :param fast: use :func:`~.aiohttp_transport.fast_transport` if it can be; only if no call starts work
    :param sleep: waits so many seconds
    :param clock: the time in seconds, from any start
    :raises ValueError: if a certificate or the proxy of the settings cannot be used
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        fast: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        tls: ssl.SSLContext | bool = True
        faster: FastTransport | None = None
        if transport is None:
            tls = tls_context(settings)
            if fast:
                faster = fast_transport(settings, tls, _limits(settings))
        self._http = httpx.AsyncClient(
            transport=faster or transport,
            verify=tls,
            proxy=settings.proxy,
            headers=_HEADERS,
            timeout=client_timeout(settings, settings.read_timeout),
            limits=_limits(settings),
        )
        self._exchange = Exchange(settings, self._http, clock)
        self._poll_sender = None
        if faster is not None:
            request = self._http.build_request("GET", settings.base_url, headers=platform_headers(settings))
            self._poll_sender = PollSender(faster, request)
        self._sleep = sleep

    async def send(self, call: Call[T]) -> T:
        """Send a call and return its result.

        :param call: what to send
        :raises PlatformError: if it failed after all retries
        """
        return await self._drive(self._exchange.send(call))

    async def download(self, call: Call[object], to: BinaryIO, max_bytes: int = MAX_DOWNLOAD) -> int:
        """Send a call and write its response to a file as it arrives, in a thread.

        :param call: what to send
        :param to: a file open for writing bytes
        :param max_bytes: maximum size of the response
        :returns: how many bytes were written
        :raises PlatformError: if it failed after all retries
        """
        return await self._drive(self._exchange.download(call, to, max_bytes))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _drive(self, flow: Flow[R]) -> R:
        with contextlib.closing(flow):
            try:
                step = next(flow)
                while True:
                    try:
                        await self._carry_out(step)
                    except Exception as error:  # noqa: BLE001 - the exchange handles it
                        step = flow.throw(error)
                    else:
                        step = next(flow)
            except StopIteration as end:
                result: R = end.value
                return result

    async def _carry_out(self, step: Sleep | Transfer) -> None:
        if isinstance(step, Sleep):
            await self._sleep(step.seconds)
            return
        try:
            # Files may take long to send; then the time counts from their end.
            async with asyncio.timeout(None if step.reads_files else step.bounds.max_seconds) as limit:
                await self._transfer(step, limit)
        except TimeoutError:
            raise httpx.ReadTimeout("the response is too slow") from None

    async def _transfer(self, step: Transfer, limit: asyncio.Timeout) -> None:
        if self._poll_sender is not None and step.path is not None:
            await self._poll_sender.send(step, step.path)
            return
        with contextlib.closing(step):
            request = await asyncio.to_thread(step.build) if step.reads_files else step.build()
            if step.reads_files and isinstance(request.stream, httpx.SyncByteStream):
                seconds = step.bounds.max_seconds
                request.stream = ThreadedStream(
                    request.stream,
                    lambda: limit.reschedule(asyncio.get_running_loop().time() + seconds),
                )
            response = await self._http.send(request, stream=True)
            async with contextlib.aclosing(response):
                assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
                await receive(step, response.status_code, response.headers.raw, response.stream)


def _receive(transfer: Transfer, response: httpx.Response) -> None:
    """Receive a response as it was sent: httpx would decompress each block without a limit."""
    transfer.begin(response.status_code, response.headers.raw)
    assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - for the type checker
    for block in response.stream:
        for piece in transfer.pieces(block):
            if not transfer.take(piece):
                return
    transfer.end()


def _limits(settings: ClientSettings) -> httpx.Limits:
    return httpx.Limits(
        max_connections=settings.max_connections,
        max_keepalive_connections=settings.max_connections,
        keepalive_expiry=_IDLE_SECONDS,
    )


def tls_context(settings: ClientSettings) -> ssl.SSLContext:
    """Return the TLS context: how to verify certificates, and the client's own certificate.

    :param settings: how to reach the platform
    :raises ValueError: if a certificate is unusable
    """
    if not isinstance(settings.verify, bool):
        context = _context_with_bundle(settings.verify)
    elif settings.client_cert:
        context = httpx.create_ssl_context(verify=settings.verify)
    else:
        return _default_context(verify=settings.verify)
    if settings.client_cert:
        try:
            context.load_cert_chain(settings.client_cert, settings.client_key)
        except OSError as error:
            raise ValueError(f"client_cert and client_key cannot be used: {_reason(error)}") from None
    return context


@functools.cache
def _default_context(*, verify: bool) -> ssl.SSLContext:
    """Loading the default authorities takes at least 30 ms, also on an event loop, so it is done once."""
    return httpx.create_ssl_context(verify=verify)


def _context_with_bundle(bundle: str) -> ssl.SSLContext:
    folder = Path(bundle).is_dir()
    try:
        return ssl.create_default_context(
            cafile=None if folder else bundle, capath=bundle if folder else None
        )
    except OSError as error:
        raise ValueError(
            f"verify must be the path of a CA bundle; {bundle!r} cannot be used: {_reason(error)}"
        ) from None


def _reason(error: OSError) -> str:
    return (
        (error.reason if isinstance(error, ssl.SSLError) else None) or error.strerror or "it cannot be read"
    )
