"""Serving the app: binding, the line that says so, and stopping in time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import uvicorn

from airflow_provider_lamini.local.app import create_app
from airflow_provider_lamini.local.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.datasets.shelf import Base
    from airflow_provider_lamini.local.platform import Platform

logger = logging.getLogger(__name__)

DEFAULT_KEY: Final = "local"
"""The key on loopback where none is given: whoever reaches loopback is on this machine."""

STOP_SECONDS: Final = 1
"""Seconds that answers in progress get when the server stops."""

KEEP_ALIVE_SECONDS: Final = 75
"""Idle connections stay open longer than clients pause between two polls."""


class ServeError(Exception):
    """The platform cannot be served; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How the platform is served.

    :param host: address to bind
    :param port: port to bind; 0 takes a free one
    :param key: bearer key; None is allowed on loopback only
    :param data: folder of what outlives the process
    :param upstream: base URL of an OpenAI-compatible engine to use instead of local models
    :param control: whether the control endpoints are there
    :param upload_base: how the rows of datasets are to come in
    """

    host: str
    port: int
    key: str | None = field(default=None, repr=False)
    data: Path
    upstream: str | None = None
    control: bool = False
    upload_base: Base = "local"

    def checked_key(self) -> str:
        """The key to require.

        :raises ServeError: the address is not loopback and no key was given
        """
        if self.key is not None:
            if not self.key.strip() or not self.key.isascii() or not self.key.isprintable():
                raise ServeError("The key must be printable ASCII text and not empty.")
            return self.key.strip()
        if not is_loopback(self.host):
            raise ServeError(
                f"Serving on {self.host} lets other machines in: "
                "set a key of your own with --key or LAMINI_LOCAL_KEY."
            )
        return DEFAULT_KEY


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name counts if all its addresses do."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool(host) and all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    :raises ServeError: the address cannot be bound
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ServeError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None
    # Accepted sockets inherit it. asyncio sets it only where a socket names its protocol, which these do not:
    # without it, each answer waits 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    """The URL under which a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that says when it is ready and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: a stop that was asked for is a good end, not a death by signal."""
        yield


def serve(
    platform: Platform,
    key: str,
    listening: socket.socket,
    *,
    control: bool,
    ready: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    :param platform: what is served
    :param key: the bearer key
    :param listening: where to accept connections
    :param control: whether the control endpoints are there
    :param ready: called once requests are answered
    :param stopping: called when the stop begins
    """
    connections = Connections()
    config = uvicorn.Config(
        create_app(platform, key, connections if control else None),
        http=connections.protocol(),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config, ready)

    def stop() -> None:
        server.should_exit = True
        stopping()
        platform.runner.stop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve(sockets=[listening])

    asyncio.run(main())
