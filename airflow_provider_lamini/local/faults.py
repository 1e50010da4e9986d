"""Faults for tests: answers that go wrong on purpose, models that are loading, rows that fail."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from airflow_provider_lamini.local.guard import OPEN_PATHS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_provider_lamini.local.connections import Connections

CONTROL_PREFIX: Final = "/_control"


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


class Fault(BaseModel):
    """What goes wrong with some requests.

    :param path: regular expression that the whole path fits
    :param method: only requests of this method
    :param skip: so many fitting requests are let through first
    :param times: so many fitting requests are hit then; None hits all of them
    :param when: ``before`` anything is done for the request, or ``after`` the work was done, so that only
        the answer is lost
    :param delay: seconds to wait first (``before``), or before the answer (``after``)
    :param status: answer with this status instead
    :param headers: headers of that answer, such as ``Retry-After``
    :param body: body of that answer; None is a platform-like JSON body
    :param truncate: send so many bytes of the true body only, as an answer that is complete in itself
    :param drop: close the connection without an answer; with ``truncate``, after so many bytes of it
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, AfterValidator(_pattern)]
    method: Literal["GET", "POST", "PUT", "DELETE"] | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    when: Literal["before", "after"] = "before"
    delay: Annotated[float, Field(ge=0, le=600)] = 0.0
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    truncate: Annotated[int, Field(ge=0)] | None = None
    drop: bool = False

    def fits(self, method: str, path: str) -> bool:
        """Whether this is about such a request."""
        return self.method in (None, method) and re.fullmatch(self.path, path) is not None


class Faults:
    """The faults that are set, and how often each was met; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []
        self._loading: dict[str | None, float] = {}
        self._bad_rows: list[tuple[str, list[int | None]]] = []

    def add(self, fault: Fault) -> None:
        """Set a fault; of several that fit a request, the one set first counts."""
        with self._lock:
            self._faults.append((fault, [0]))

    def hit(self, method: str, path: str) -> Fault | None:
        """The fault for a request that came in, if there is one; it is counted."""
        with self._lock:
            for fault, met in self._faults:
                if not fault.fits(method, path):
                    continue
                if fault.times is not None and met[0] >= fault.skip + fault.times:
                    continue
                met[0] += 1
                if met[0] > fault.skip:
                    return fault
            return None

    def listing(self) -> list[tuple[Fault, int]]:
        """Each fault with the number of requests that it hit."""
        with self._lock:
            return [(fault, max(0, met[0] - fault.skip)) for fault, met in self._faults]

    def load(self, model_name: str | None, seconds: float) -> None:
        """Make a model count as loading for a while; None means every model."""
        with self._lock:
            self._loading[model_name] = time.monotonic() + seconds

    def loading(self, model_name: str) -> bool:
        """Whether a model counts as loading."""
        with self._lock:
            return any(time.monotonic() < self._loading.get(name, 0) for name in (None, model_name))

    def spoil(self, text: str, times: int | None) -> None:
        """Let rows whose prompt contains a text fail, so many times; None means always."""
        with self._lock:
            self._bad_rows.append((text, [times]))

    def spoils(self, prompt: str) -> bool:
        """Whether a row fails now; it is counted."""
        with self._lock:
            for text, left in self._bad_rows:
                if text in prompt and left[0] != 0:
                    left[0] = None if left[0] is None else left[0] - 1
                    return True
            return False

    def reset(self) -> None:
        """Let everything go right again."""
        with self._lock:
            self._faults.clear()
            self._loading.clear()
            self._bad_rows.clear()


class InjectFaults:
    """Lets requests go wrong as the faults say; the control endpoints and the health path never do.

    :param app: what it surrounds
    :param faults: the faults
    :param connections: the open connections, to close one
    """

    def __init__(self, app: ASGIApp, faults: Faults, connections: Connections) -> None:
        self._app = app
        self._faults = faults
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        fault = None
        if scope["type"] == "http" and not self._is_exempt(scope["path"]):
            fault = self._faults.hit(scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.when == "before":
            await self._before(fault, scope, receive, send)
        else:
            await self._after(fault, scope, receive, send)

    @staticmethod
    def _is_exempt(path: str) -> bool:
        return path in OPEN_PATHS or path.startswith(CONTROL_PREFIX)

    async def _before(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(fault.delay)
        if fault.truncate is not None:
            await self._after(fault.model_copy(update={"delay": 0}), scope, receive, send)
        elif fault.drop:
            await self._connections.drop(scope)
        elif fault.status is not None:
            await self._answer(fault, fault.status)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _after(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        await asyncio.sleep(fault.delay)
        if fault.drop and fault.truncate is None:
            await self._connections.drop(scope)
        elif fault.status is not None:
            await self._answer(fault, fault.status)(scope, receive, send)
        elif fault.truncate is None:
            for message in answer:
                await send(message)
        else:
            await self._truncated(fault, answer, scope, send)

    async def _truncated(self, fault: Fault, answer: list[Message], scope: Scope, send: Send) -> None:
        body = b"".join(message.get("body", b"") for message in answer[1:])
        cut = body[: fault.truncate]
        length = body if fault.drop else cut
        headers = [(name, value) for name, value in answer[0]["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(length)).encode()))
        await send({**answer[0], "headers": headers})
        await send({"type": "http.response.body", "body": cut, "more_body": fault.drop})
        if fault.drop:
            await self._connections.drop(scope, flush=True)

    @staticmethod
    def _answer(fault: Fault, status: int) -> Response:
        body = '{"detail": "A fault that was asked for."}' if fault.body is None else fault.body
        content_type = "application/json" if fault.body is None else None
        headers = {"content-type": "text/html"} if content_type is None else {}
        return Response(body, status, headers | fault.headers, content_type)
