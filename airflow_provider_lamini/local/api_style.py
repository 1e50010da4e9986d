"""How the platform's APIs differ outside their endpoints: where they are served, the key's header, the errors' form."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.datastructures import Headers

    from airflow_provider_lamini.api.call import Json

EMISSARY_PREFIX: Final = "/emissary"


class ErrorBody(Protocol):
    """Writes the body of an error."""

    def __call__(self, status: int, message: str) -> dict[str, Json]:
        """Return the body.

        :param status: HTTP status
        :param message: what happened, for a person to read
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiStyle:
    """The conventions of one API.

    :param prefix: path below which it is served; empty for the API at the root
    :param key_header: request header with the API key
    :param key_scheme: word before the key in that header; empty if there is none
    :param error_body: writes the body of an error
    :param invalid_status: HTTP status of a request that is invalid
    :param statuses: HTTP statuses that another API of this platform uses, and this API's own ones for them
    """

    prefix: str
    key_header: str
    key_scheme: str
    error_body: ErrorBody
    invalid_status: int
    statuses: Mapping[int, int]

    def has_key(self, headers: Headers, key: bytes) -> bool:
        """Whether a request carries the key."""
        sent = headers.get(self.key_header, "")
        if self.key_scheme:
            scheme, _, sent = sent.partition(" ")
            if scheme.lower() != self.key_scheme.lower():
                return False
        return hmac.compare_digest(sent.strip().encode(), key)

    def unauthorized(self, headers: Headers) -> JSONResponse:
        """Return the response to a request without the right key."""
        problem = "a wrong API key" if self.key_header in headers else "no API key"
        expected = f"{self.key_header}: {self.key_scheme} <key>".replace(":  ", ": ")
        message = f"The request carries {problem}: send the platform's key as '{expected}'."
        challenge = {"WWW-Authenticate": self.key_scheme} if self.key_scheme else None
        return self.error(401, message, challenge)

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Return an error response.

        :param status: HTTP status, perhaps of another API of this platform
        :param message: what happened, for a person to read
        :param headers: additional response headers
        """
        status = self.statuses.get(status, status)
        return JSONResponse(self.error_body(status, message), status, headers)

    def invalid(self, errors: Sequence[Mapping[str, Json]]) -> JSONResponse:
        """Return the response to an invalid request.

        :param errors: each with ``loc``, ``msg`` and ``type``, never with the input
        """
        if self.invalid_status != 400:  # noqa: PLR2004 - the only API that lists the errors
            return JSONResponse({"detail": errors}, self.invalid_status)
        lines = [": ".join(filter(None, (_field(item["loc"]), str(item["msg"])))) for item in errors]
        return self.error(self.invalid_status, "; ".join(lines))


def _field(location: Json) -> str:
    names = [str(name) for name in location] if isinstance(location, list | tuple) else []
    return ".".join(names[1:] if names[:1] == ["body"] else names)


def _detail(status: int, message: str) -> dict[str, Json]:  # noqa: ARG001 - the body does not repeat the status
    return {"detail": message}


def _status_and_error(status: int, message: str) -> dict[str, Json]:
    body: dict[str, Json] = {"status": status, "error": message}
    return body | {"code": "object_not_found"} if status == 404 else body  # noqa: PLR2004 - not found


LAMINI: Final = ApiStyle(
    prefix="",
    key_header="Authorization",
    key_scheme="Bearer",
    error_body=_detail,
    invalid_status=422,
    statuses={},
)
EMISSARY: Final = ApiStyle(
    prefix=EMISSARY_PREFIX,
    key_header="X-API-Key",
    key_scheme="",
    error_body=_status_and_error,
    invalid_status=400,
    statuses={498: 404, 594: 404, 513: 503},
)


def style_of(path: str) -> ApiStyle:
    """Return the style of the API that a path belongs to."""
    return EMISSARY if path == EMISSARY_PREFIX or path.startswith(f"{EMISSARY_PREFIX}/") else LAMINI
