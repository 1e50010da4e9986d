"""The server's open connections, so that one can be closed in the middle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Scope

CLOSE_SECONDS: Final = 2.0


class Connections:
    """Open connections by their peer."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        """The protocol that the server has to use, for its connections to be known here."""
        transports = self._transports

        class Known(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                self.peer = transport.get_extra_info("peername")[:2]
                transports[self.peer] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.peer, None)
                super().connection_lost(exc)

        return Known

    async def drop(self, scope: Scope, *, flush: bool = False) -> None:
        """Close the connection of a request.

        :param scope: the request's
        :param flush: let what was sent leave first
        """
        peer = tuple(scope["client"])
        transport = self._transports.get(peer)
        deadline = asyncio.get_running_loop().time() + CLOSE_SECONDS
        while flush and transport is not None and transport.get_write_buffer_size():
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        if transport is not None:
            transport.abort()
        # The server must have seen the end, or it answers 500 for a request that has no answer.
        while peer in self._transports and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a test's detour
            await asyncio.sleep(0.001)
