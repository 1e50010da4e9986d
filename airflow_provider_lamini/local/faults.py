"""Faults on demand, for tests: failing or slow responses, dropped connections, loading models, failing rows."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from airflow_provider_lamini.local.api_style import style_of
from airflow_provider_lamini.local.middleware import PUBLIC_PATHS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol

CONTROL_PREFIX: Final = "/_control"

CLOSE_TIMEOUT: Final = 2.0
"""Seconds to wait until a connection is flushed and closed."""


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


class Fault(BaseModel):
    """Something that goes wrong with matching requests.

    :param path: regular expression that must match the whole path
    :param method: HTTP method to match; None matches all
    :param contains: text that the body must contain; None matches all
    :param longer_than: number of bytes that the body must exceed; None matches all
    :param skip: number of matching requests to let through first
    :param times: number of matching requests to affect after that; None affects all
    :param when: ``before`` the request is processed, or ``after``, so that only the response is lost
    :param delay: seconds to wait before processing the request (``before``) or before responding (``after``)
    :param status: respond with this HTTP status instead
    :param headers: headers of that response, such as ``Retry-After``
    :param body: body of that response; None is a JSON body like the platform's
    :param truncate: send only this many bytes of the real body, as a complete response
    :param drop: close the connection without a response, or with ``truncate`` after that many bytes of it
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, AfterValidator(_check_pattern)]
    method: Literal["GET", "POST", "PUT", "DELETE"] | None = None
    contains: str | None = None
    longer_than: Annotated[int, Field(ge=0)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    when: Literal["before", "after"] = "before"
    delay: Annotated[float, Field(ge=0, le=600)] = 0.0
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    truncate: Annotated[int, Field(ge=0)] | None = None
    drop: bool = False

    @property
    def needs_body(self) -> bool:
        """Whether the body decides if the fault applies."""
        return self.contains is not None or self.longer_than is not None

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether the fault applies to requests of this method, path and body."""
        return (
            self.method in (None, method)
            and re.fullmatch(self.path, path) is not None
            and (self.contains is None or self.contains.encode() in body)
            and (self.longer_than is None or len(body) > self.longer_than)
        )


class Faults:
    """The active faults and how often each was matched. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []
        self._loading: dict[str | None, float] = {}
        self._failing_rows: list[tuple[str, list[int | None]]] = []

    def add(self, fault: Fault) -> None:
        """Add a fault. If several match a request, the one added first applies."""
        with self._lock:
            self._faults.append((fault, [0]))

    def need_body(self) -> bool:
        """Whether the body of a request decides if a fault applies."""
        with self._lock:
            return any(fault.needs_body for fault, _ in self._faults)

    def next_fault(self, method: str, path: str, body: bytes = b"") -> Fault | None:
        """Count an incoming request and return the fault that applies to it, if any.

        :param method: HTTP method
        :param path: path of the request
        :param body: its body, if a fault needs it
        """
        with self._lock:
            for fault, matched in self._faults:
                if not fault.matches(method, path, body):
                    continue
                if fault.times is not None and matched[0] >= fault.skip + fault.times:
                    continue
                matched[0] += 1
                if matched[0] > fault.skip:
                    return fault
            return None

    def hit_counts(self) -> list[tuple[Fault, int]]:
        """Each fault with the number of requests it affected."""
        with self._lock:
            return [(fault, max(0, matched[0] - fault.skip)) for fault, matched in self._faults]

    def set_loading(self, model_name: str | None, seconds: float) -> None:
        """Report a model as loading for some time; None stands for every model."""
        with self._lock:
            self._loading[model_name] = time.monotonic() + seconds

    def is_loading(self, model_name: str) -> bool:
        """Whether to report a model as loading."""
        with self._lock:
            return any(time.monotonic() < self._loading.get(name, 0) for name in (None, model_name))

    def fail_rows(self, text: str, times: int | None) -> None:
        """Let rows fail whose prompt contains a text, this many times; None means always."""
        with self._lock:
            self._failing_rows.append((text, [times]))

    def row_fails(self, prompt: str) -> bool:
        """Count a row and return whether it fails now."""
        with self._lock:
            for text, remaining in self._failing_rows:
                if text in prompt and remaining[0] != 0:
                    remaining[0] = None if remaining[0] is None else remaining[0] - 1
                    return True
            return False

    def reset(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()
            self._loading.clear()
            self._failing_rows.clear()


class Connections:
    """The server's open connections by peer address, so that a fault can drop one."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}

    def protocol(self, base: type[H11Protocol]) -> type[H11Protocol]:
        """Protocol class for uvicorn that registers each connection here.

        :param base: the protocol class without that
        """
        transports = self._transports

        class RegisteredProtocol(base):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                self.peer = transport.get_extra_info("peername")[:2]
                transports[self.peer] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.peer, None)
                super().connection_lost(exc)

        return RegisteredProtocol

    async def drop(self, scope: Scope, *, flush: bool = False) -> None:
        """Close the connection of a request.

        :param scope: the request's scope
        :param flush: first wait until everything written so far has been sent
        """
        peer = tuple(scope["client"])
        transport = self._transports.get(peer)
        deadline = asyncio.get_running_loop().time() + CLOSE_TIMEOUT
        while flush and transport is not None and transport.get_write_buffer_size():
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        if transport is not None:
            transport.abort()
        # Uvicorn must notice the disconnect first. Otherwise it sends a 500, as the app has sent no response.
        while peer in self._transports and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - only tests run this
            await asyncio.sleep(0.001)


class InjectFaults:
    """Middleware that applies faults to requests, except for the control endpoints and the health check.

    :param app: the wrapped app
    :param faults: the faults
    :param connections: the open connections
    """

    def __init__(self, app: ASGIApp, faults: Faults, connections: Connections) -> None:
        self._app = app
        self._faults = faults
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        fault = None
        if scope["type"] == "http" and not self._is_exempt(scope["path"]):
            body = b""
            if self._faults.need_body():
                body, receive = await _read(receive)
            fault = self._faults.next_fault(scope["method"], scope["path"], body)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.when == "before":
            await self._apply_before(fault, scope, receive, send)
        else:
            await self._apply_after(fault, scope, receive, send)

    @staticmethod
    def _is_exempt(path: str) -> bool:
        return path in PUBLIC_PATHS or path.startswith(CONTROL_PREFIX)

    async def _apply_before(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.delay)
        if fault.truncate is not None:
            await self._apply_after(fault.model_copy(update={"delay": 0}), scope, receive, send)
        elif fault.drop:
            await self._connections.drop(scope)
        elif fault.status is not None:
            await self._response(fault, fault.status, scope["path"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _apply_after(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        response: list[Message] = []

        async def buffer(message: Message) -> None:
            response.append(message)

        await self._app(scope, receive, buffer)
        await asyncio.sleep(fault.delay)
        if fault.drop and fault.truncate is None:
            await self._connections.drop(scope)
        elif fault.status is not None:
            await self._response(fault, fault.status, scope["path"])(scope, receive, send)
        elif fault.truncate is None:
            for message in response:
                await send(message)
        else:
            await self._send_truncated(fault, response, scope, send)

    async def _send_truncated(self, fault: Fault, response: list[Message], scope: Scope, send: Send) -> None:
        body = b"".join(message.get("body", b"") for message in response[1:])
        truncated = body[: fault.truncate]
        announced = body if fault.drop else truncated
        headers = [
            (name, value) for name, value in response[0]["headers"] if name.lower() != b"content-length"
        ]
        headers.append((b"content-length", str(len(announced)).encode()))
        await send({**response[0], "headers": headers})
        await send({"type": "http.response.body", "body": truncated, "more_body": fault.drop})
        if fault.drop:
            await self._connections.drop(scope, flush=True)

    @staticmethod
    def _response(fault: Fault, status: int, path: str) -> Response:
        if fault.body is None:
            return style_of(path).error(status, "An injected fault.", fault.headers)
        return Response(fault.body, status, {"content-type": "text/html"} | fault.headers)


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Read the body of a request, and return it with a function that delivers it again."""
    messages: list[Message] = []
    while not messages or (messages[-1]["type"] == "http.request" and messages[-1].get("more_body")):
        messages.append(await receive())
    waiting = iter(messages)

    async def again() -> Message:
        found = next(waiting, None)
        return await receive() if found is None else found

    return b"".join(message.get("body", b"") for message in messages), again
