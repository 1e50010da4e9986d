"""Connections with time limits: clients that stop sending or reading lose theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_lamini.local.edge.limits import MAX_CONNECTIONS, Limits

if TYPE_CHECKING:
    import asyncio


class TimedProtocol(H11Protocol):
    """Closes a connection whose client is too slow.

    It bounds the time for a request's headers, for the rest of a body that nobody reads any more, and for reading a
    response. Bodies that are being read are bounded where they are read.
    """

    limits: ClassVar[Limits] = Limits()

    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _is_new = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, unless there are far too many."""
        super().connection_made(transport)
        if len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
            return
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process what the client sent."""
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        """Prepare for the next request."""
        super().on_response_complete()
        self._update_timer()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.client_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client does not read what was sent."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.limits.client_timeout, self.transport.abort)

    def _update_timer(self) -> None:
        if not self._is_client_expected_to_send():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.limits.client_timeout, self.transport.abort)

    def _is_client_expected_to_send(self) -> bool:
        """Whether headers are incomplete, or a response was sent before the whole body had arrived."""
        if self.cycle is not None:
            self._is_new = False
            if not self.cycle.response_complete:
                return False
        incomplete = bool(self.conn.trailing_data[0]) and self.conn.their_state is h11.IDLE
        return self._is_new or incomplete or self.conn.their_state is h11.SEND_BODY


def timed_protocol(limits: Limits) -> type[TimedProtocol]:
    """Return the protocol class for some limits."""

    class LimitedProtocol(TimedProtocol):
        pass

    LimitedProtocol.limits = limits
    return LimitedProtocol
