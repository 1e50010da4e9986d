"""Checks of a request's headers: the host, how the body is delimited and encoded, and its media type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from airflow_provider_lamini.local.api_style import style_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

MAX_BOUNDARY: Final = 70
"""Maximum length of a multipart boundary, by RFC 2046."""

_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


class CheckHeaders:
    """Refuses requests for other hosts, and those whose headers make their body ambiguous or unreadable.

    The check of the host keeps web pages from reaching the platform through a name of their own that leads to loopback.

    :param app: the wrapped app
    :param allowed_hosts: names that requests may be addressed to, beside those of loopback; ``*`` allows all
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed = {name.lower().strip("[]") for name in (*LOOPBACK_HOSTS, *allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return  # no endpoint speaks another protocol
        headers = Headers(scope=scope)
        problem = self._host_problem(headers, scope) or _framing_problem(headers) or _media_problem(headers)
        if problem is None:
            await self._app(scope, receive, send)
            return
        status, detail = problem
        # Where the body ends is in doubt, or nobody will read it.
        response = style_of(scope["path"]).error(status, detail, {"Connection": "close"})
        await response(scope, receive, send)

    def _host_problem(self, headers: Headers, scope: Scope) -> tuple[int, str] | None:
        if "*" in self._allowed:
            return None
        host = _HOST.fullmatch(headers.get("host", ""))
        name = "" if host is None else host["name"].lower().strip("[]").removesuffix(".")
        # An address that the connection really came in at cannot be a name that somebody else controls.
        if name in self._allowed or (scope.get("server") is not None and name == scope["server"][0]):
            return None
        if not name:
            return 400, "The Host header is missing or invalid."
        return 400, f"Host {name!r} is not allowed: start the platform with --allowed-host {name}."


def _framing_problem(headers: Headers) -> tuple[int, str] | None:
    if "content-length" in headers and "transfer-encoding" in headers:
        return 400, "The request has both Content-Length and Transfer-Encoding: send only one of them."
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return 415, "Compressed bodies are not accepted: send the body without Content-Encoding."
    return None


def _media_problem(headers: Headers) -> tuple[int, str] | None:
    content_type = headers.get("content-type", "")
    kind, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in _CHARSETS or "charset*" in content_type.lower():
        return 415, "The body's charset must be UTF-8."
    if kind.startswith(b"multipart/"):
        boundary = options.get(b"boundary", b"")
        if not boundary or len(boundary) > MAX_BOUNDARY or not boundary.isascii():
            return 400, f"The multipart boundary must be 1 to {MAX_BOUNDARY} ASCII characters."
    return None
