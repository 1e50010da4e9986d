"""The server: options, opening the platform, binding a socket, and serving until a signal arrives."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import uvicorn

from airflow_provider_lamini.local import DEFAULT_KEY
from airflow_provider_lamini.local.app import create_app
from airflow_provider_lamini.local.edge.connections import timed_protocol
from airflow_provider_lamini.local.edge.limits import MAX_CONNECTIONS, Limits
from airflow_provider_lamini.local.emissary import REACTIVATION_SECONDS
from airflow_provider_lamini.local.emissary.delays import Delays
from airflow_provider_lamini.local.engines.factory import (
    open_embedding_engine,
    open_text_engine,
    open_upstream,
)
from airflow_provider_lamini.local.faults import Connections
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.platform import LocalPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.datasets.repository import UploadBase
    from airflow_provider_lamini.local.engines.base import TextEngine

UPSTREAM_KEY_VARIABLE: Final = "LAMINI_LOCAL_UPSTREAM_KEY"

STOP_SECONDS: Final = 1
"""Seconds that running requests may still take when the server stops."""

KEEP_ALIVE_SECONDS: Final = 75
"""Idle connections stay open for longer than clients pause between polls."""


class ServeError(Exception):
    """The platform cannot be served. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of ``lamini-local serve``.

    :param host: address to bind
    :param port: port to bind; 0 picks a free one
    :param key: the API key; None is allowed on loopback only
    :param data: folder of all data that survives a restart
    :param upstream: base URL of an OpenAI-compatible engine to use instead of local models
    :param control: whether to serve the control endpoints
    :param upload_base: how clients upload the rows of datasets
    :param limits: limits on what clients send
    :param reactivation_delay: seconds that a deployment or engine of the Emissary API takes to wake
    """

    host: str
    port: int
    key: str | None = field(default=None, repr=False)
    data: Path
    upstream: str | None = None
    control: bool = False
    upload_base: UploadBase = "local"
    limits: Limits = field(default_factory=Limits)
    reactivation_delay: float = REACTIVATION_SECONDS

    def checked_key(self) -> str:
        """Return the API key that requests must carry.

        :raises ServeError: the key cannot be sent in a header, or is missing although others reach the address
        """
        if self.key is not None:
            if not self.key.strip() or not self.key.isascii() or not self.key.isprintable():
                raise ServeError("The key must be printable ASCII text and not empty.")
            return self.key.strip()
        if not is_loopback(self.host):
            raise ServeError(
                f"Other machines can reach {self.host}: set your own API key with --key or LAMINI_LOCAL_KEY."
            )
        return DEFAULT_KEY


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host. A name must resolve to loopback addresses only."""
    try:
        addresses = {
            str(info[4][0]) for info in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        return False
    return bool(host) and all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses
    )


def open_platform(options: ServeOptions) -> LocalPlatform:
    """Open the engines and the data folder.

    :param options: how to serve the platform
    :raises ServeError: the upstream URL is invalid
    :raises DataFolderError: the data folder cannot be used, or another platform uses it
    :raises ModelError: a model is missing
    :raises EngineError: a model cannot be loaded, or the upstream engine does not respond
    """
    delays = Delays(reactivation=options.reactivation_delay)
    if options.upstream is not None:
        try:
            upstream = open_upstream(options.upstream, os.environ.get(UPSTREAM_KEY_VARIABLE))
        except ValueError as error:
            raise ServeError(str(error)) from None
        return LocalPlatform(options.data, upstream, upstream, upload_base=options.upload_base, delays=delays)

    from airflow_provider_lamini.local.engines.llama import LlamaTextEngine

    models = ModelStore()

    def open_text(name: str) -> TextEngine:
        return LlamaTextEngine({name: models.require(name)})

    texts, vectors = open_text_engine(models), open_embedding_engine(models)
    return LocalPlatform(
        options.data,
        texts,
        vectors,
        models,
        open_text,
        upload_base=options.upload_base,
        delays=delays,
    )


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    :raises ServeError: the address cannot be bound
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # The error of the socket repeats the address as Python writes it.
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        raise ServeError(
            f"Cannot listen on {host}:{port}: {reason}. Choose another --host or --port."
        ) from None
    # Accepted sockets inherit this option. asyncio sets it only for sockets created with an explicit protocol,
    # unlike this one. Without it, each response waits 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    """Base URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A uvicorn server that calls back when it is ready and leaves signal handling to its caller."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call back."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals, so that SIGTERM ends the process with status 0 instead of being raised again."""
        yield


def serve(
    platform: LocalPlatform,
    key: str,
    listening: socket.socket,
    *,
    options: ServeOptions,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    :param platform: the platform
    :param key: the API key
    :param listening: the listening socket
    :param options: how to serve the platform
    :param on_ready: called when the server accepts requests
    :param on_stop: called when the server starts to shut down
    """
    connections = Connections()
    config = uvicorn.Config(
        create_app(platform, key, connections if options.control else None, options.limits),
        http=connections.protocol(timed_protocol(options.limits)),
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config, on_ready)

    def stop() -> None:
        server.should_exit = True
        on_stop()
        platform.runner.stop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve(sockets=[listening])

    asyncio.run(main())
