"""The layers around the endpoints: the key, unexpected errors, and counting requests."""

from __future__ import annotations

import hmac
import logging
import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from airflow_provider_lamini.local.errors import place_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset({"/healthz"})
"""Paths that need no key."""

SIGNED_PREFIX: Final = "/blobs/"
"""Paths below it carry a signature of their own instead of the key."""

_ID: Final = re.compile(r"/[0-9a-f]{32}(?=/|$)")


class RequireKey:
    """Lets only requests with the key through; the rest get a 401.

    :param app: what it guards
    :param key: the bearer key
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        if scope["type"] != "http" or self._is_open(scope["path"]) or self._allows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        said = "a wrong API key" if "authorization" in Headers(scope=scope) else "no API key"
        detail = f"The request carries {said}: send the platform's key as 'Authorization: Bearer <key>'."
        await JSONResponse({"detail": detail}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    @staticmethod
    def _is_open(path: str) -> bool:
        return path in OPEN_PATHS or path.startswith(SIGNED_PREFIX)

    def _allows(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key)


class Requests:
    """How many requests came in, per method and path (an id in it is written ``{id}``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, method: str, path: str) -> None:
        """Note one request."""
        with self._lock:
            self._counts[f"{method} {_ID.sub('/{id}', path)}"] += 1

    def counts(self) -> dict[str, int]:
        """Requests so far."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Count from nothing again."""
        with self._lock:
            self._counts.clear()


class CountRequests:
    """Counts requests.

    :param app: what it surrounds
    :param requests: where they are counted
    """

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        if scope["type"] == "http":
            self._requests.count(scope["method"], scope["path"])
        await self._app(scope, receive, send)


class AnswerBroken:
    """Answers 500 where something unexpected broke. Its text stays here: it may hold a prompt.

    :param app: what it surrounds
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            request = f"{scope.get('method', scope['type'])} {scope.get('path', '')!r}"
            logger.error("%s broke: %s", request, place_of(error))  # noqa: TRY400 - its text may hold a prompt
            if begun:
                raise AnswerBrokenOffError(f"{request}: the answer broke off") from None
            await JSONResponse({"detail": ""}, 500)(scope, receive, send)


class AnswerBrokenOffError(Exception):
    """An answer that had begun cannot be completed: the server closes the connection."""
