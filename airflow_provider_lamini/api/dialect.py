"""What differs between platforms on the wire: how the key is sent, which statuses mean what, which fields are secret.

No import beyond the standard library: hooks load this where Dags are parsed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_lamini.api import errors

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatus:
    """What an HTTP status other than success means.

    :param meaning: a few words for the message, such as ``no such job``
    :param error: class of the error; with `ModelLoadingError`, retries are slow and use the model loading budget
    :param advice: one sentence: what the user can do. If empty, the advice for the class of error.
    :param transient: whether the same request may succeed later
    :param not_started: whether the platform certainly did not start the work
    """

    meaning: str
    error: type[errors.PlatformError]
    advice: str = ""
    transient: bool = False
    not_started: bool = False


_UNAVAILABLE = ErrorStatus(
    meaning="the platform is not available", error=errors.UnavailableError, transient=True
)

GENERIC_STATUSES: Mapping[int, ErrorStatus] = MappingProxyType(
    {
        400: ErrorStatus(meaning="the request was refused", error=errors.BadRequestError, not_started=True),
        401: ErrorStatus(
            meaning="the key is missing or wrong", error=errors.AuthenticationError, not_started=True
        ),
        403: ErrorStatus(
            meaning="the key is not allowed to do this", error=errors.AuthenticationError, not_started=True
        ),
        404: ErrorStatus(meaning="no such path or object", error=errors.NotFoundError, not_started=True),
        405: ErrorStatus(
            meaning="nothing at this address takes such a request",
            error=errors.NotThePlatformError,
            not_started=True,
        ),
        # A platform that had read the request in time may answer so, too: then the work may have begun.
        408: ErrorStatus(
            meaning="the request took too long", error=errors.PlatformTimeoutError, transient=True
        ),
        422: ErrorStatus(
            meaning="an argument is invalid", error=errors.InvalidRequestError, not_started=True
        ),
        429: ErrorStatus(
            meaning="too many requests", error=errors.RateLimitedError, transient=True, not_started=True
        ),
        500: ErrorStatus(
            meaning="internal error of the platform", error=errors.UnavailableError, transient=True
        ),
        501: ErrorStatus(meaning="it does not support this", error=errors.UnsupportedError, not_started=True),
        502: _UNAVAILABLE,
        503: _UNAVAILABLE,
        504: _UNAVAILABLE,
    }
)
"""Statuses that mean the same on every platform."""

_OTHER_SERVER_ERROR = ErrorStatus(meaning="", error=errors.UnavailableError)
_OTHER_CLIENT_ERROR = ErrorStatus(meaning="", error=errors.BadRequestError, not_started=True)
_REDIRECT = ErrorStatus(meaning="", error=errors.ProtocolError, not_started=True)
_OTHER = ErrorStatus(meaning="", error=errors.ProtocolError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one platform speaks HTTP.

    :param key_header: header that carries the key
    :param key_prefix: text before the key in that header
    :param headers: headers that every request to the platform carries
    :param statuses: the platform's own statuses; they take precedence over the generic ones
    :param data_fields: fields of request bodies that hold prompts or rows; errors never repeat their values
    :param secret_fields: fields of request bodies that hold keys or tokens; nothing shows their values
    """

    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[int, ErrorStatus] = field(default_factory=dict)
    data_fields: frozenset[str] = frozenset({"data", "input", "messages", "prompt"})
    secret_fields: frozenset[str] = frozenset()

    def key_headers(self, key: str) -> dict[str, str]:
        """Return the header that authenticates a request; none for an empty key.

        :param key: the connection's key
        """
        return {self.key_header: f"{self.key_prefix}{key}"} if key else {}

    def error_status(self, status: int) -> ErrorStatus:
        """Return what a status other than success means.

        :param status: HTTP status
        """
        known = self.statuses.get(status) or GENERIC_STATUSES.get(status)
        if known is not None:
            return known
        if status >= 500:  # noqa: PLR2004 - where HTTP's server errors begin
            return _OTHER_SERVER_ERROR
        if status >= 400:  # noqa: PLR2004 - where HTTP's client errors begin
            return _OTHER_CLIENT_ERROR
        return _REDIRECT if status >= 300 else _OTHER  # noqa: PLR2004 - where HTTP's redirects begin
