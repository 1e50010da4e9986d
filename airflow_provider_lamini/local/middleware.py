"""ASGI middleware around the endpoints: checks the API key, counts requests, handles unexpected errors."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from airflow_provider_lamini.local.api_style import style_of
from airflow_provider_lamini.local.errors import storage_problem
from airflow_provider_lamini.local.unexpected import describe_safely

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

PUBLIC_PATHS: Final = frozenset({"/healthz"})
"""Paths that need no API key."""

SIGNED_PREFIX: Final = "/blobs/"
"""Requests below this path carry a signed URL instead of the API key."""

_ID: Final = re.compile(r"/(?:(?:ms|ds|tr|dp|engine)-)?[0-9a-f]{32}(?=/|$)")


class RequireKey:
    """Responds with 401 to requests that do not carry the API key, in the style of the API that they are for.

    :param app: the wrapped app
    :param key: the API key
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        style, headers = style_of(scope["path"]), Headers(scope=scope)
        if style.has_key(headers, self._key):
            await self._app(scope, receive, send)
        else:
            await style.unauthorized(headers)(scope, receive, send)

    @staticmethod
    def _is_open(path: str) -> bool:
        return path in PUBLIC_PATHS or path.startswith(SIGNED_PREFIX)


class RequestCounter:
    """Number of requests per method and path. An id in a path is counted as ``{id}``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, method: str, path: str) -> None:
        """Count one request."""
        with self._lock:
            self._counts[f"{method} {_ID.sub('/{id}', path)}"] += 1

    def counts(self) -> dict[str, int]:
        """Number of requests so far, by method and path."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self._counts.clear()


class CountRequests:
    """Counts requests.

    :param app: the wrapped app
    :param counter: receives the counts
    """

    def __init__(self, app: ASGIApp, counter: RequestCounter) -> None:
        self._app = app
        self._counter = counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            self._counter.count(scope["method"], scope["path"])
        await self._app(scope, receive, send)


class HandleUnexpectedErrors:
    """Responds with 500 to an unexpected error, and with a fitting status to one of the disk or the memory.

    The response does not repeat the error's message, which may contain a prompt.

    :param app: the wrapped app
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        response_started = False

        async def tracked_send(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        try:
            await self._app(scope, receive, tracked_send)
        except ClientDisconnect:
            logger.info("The client of %s %r went away.", scope["method"], scope["path"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a response
            request = f"{scope.get('method', scope['type'])} {scope.get('path', '')!r}"
            logger.error("%s failed unexpectedly: %s", request, describe_safely(error))  # noqa: TRY400 - the message may contain a prompt
            if response_started:
                raise ResponseAbortedError(f"{request}: the response was cut off") from None
            status, message = storage_problem(error) or (
                500,
                f"The platform failed unexpectedly ({type(error).__name__}). Its log says where.",
            )
            await style_of(scope.get("path", "")).error(status, message)(scope, receive, send)


class ResponseAbortedError(Exception):
    """A response that was already being sent cannot be completed, so the server closes the connection."""
