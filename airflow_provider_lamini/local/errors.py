"""The platform's errors and the HTTP responses they become. No response body contains a prompt."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Final, cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    PromptTooLong,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.api_style import ApiStyle

JOB_NOT_FOUND: Final = 498
MODEL_LOADING: Final = 513
MODEL_NOT_FOUND: Final = 594

METHOD_NOT_ALLOWED: Final = 405
UNSUPPORTED: Final = 501

MAX_VALIDATION_ERRORS: Final = 20
"""Maximum number of validation errors returned for one request body."""


class ApiError(Exception):
    """An error that becomes an HTTP error response.

    :param status: HTTP status
    :param detail: what happened, for a person to read; never a prompt or a key
    :param headers: additional response headers
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class InvalidBodyError(HTTPException):
    """The body of a request is invalid, whatever its endpoint expects.

    :param message: what is wrong with it
    """

    def __init__(self, message: str) -> None:
        super().__init__(422, message)
        self.errors: list[dict[str, Json]] = [{"loc": ["body"], "msg": message, "type": "value_error"}]


class NoSuchJobError(ApiError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(JOB_NOT_FOUND, f"Job {job_id} not found.")


class StillLoadingError(ApiError):
    """The model is still being downloaded or loaded."""

    def __init__(self, model_name: str) -> None:
        super().__init__(MODEL_LOADING, f"Downloading {model_name}: the model is not ready, try again later.")


_ENGINE_STATUS: dict[type[EngineError], int] = {
    ModelNotFound: MODEL_NOT_FOUND,
    PromptTooLong: 400,
    BadGenerationRequest: 400,
    EngineUnavailable: 503,
}


class ObjectNotFoundError(ApiError):
    """Nothing of this kind has this id or name.

    :param title: the kind, for example ``project``
    :param name: the id or name
    """

    def __init__(self, title: str, name: str) -> None:
        super().__init__(404, f"{title.capitalize()} {name!r} not found.")


class InvalidInputError(ApiError):
    """The request cannot be fulfilled."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGED: Final = "The platform's database is damaged: restore its data folder, or start with another."
_BUSY: Final = "The platform's database is busy: try again."
_SQLITE_PROBLEMS: Final = {
    sqlite3.SQLITE_FULL: (507, "The platform's disk is full: free space in its data folder, then try again."),
    sqlite3.SQLITE_IOERR: (
        507,
        "The platform cannot write to its data folder: check the disk, then try again.",
    ),
    sqlite3.SQLITE_CANTOPEN: (507, "The platform cannot open a file in its data folder: check the disk."),
    sqlite3.SQLITE_READONLY: (507, "The platform's data folder is read-only: check the disk and its owner."),
    sqlite3.SQLITE_BUSY: (503, _BUSY),
    sqlite3.SQLITE_LOCKED: (503, _BUSY),
    sqlite3.SQLITE_CORRUPT: (500, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (500, _DAMAGED),
}


def storage_problem(error: BaseException) -> tuple[int, str] | None:
    """HTTP status and description of an error of the disk or the memory; None for any other error."""
    if isinstance(error, sqlite3.Error):
        return _SQLITE_PROBLEMS.get(getattr(error, "sqlite_errorcode", -1) & 0xFF)
    if isinstance(error, OSError) and error.errno in _FULL:
        return _SQLITE_PROBLEMS[sqlite3.SQLITE_FULL]
    if isinstance(error, MemoryError):
        return 503, "The platform is out of memory: try again, with less at a time."
    return None


def http_status(error: EngineError | ApiError) -> int:
    """HTTP status that an error is returned with."""
    if isinstance(error, ApiError):
        return error.status
    return next((code for kind, code in _ENGINE_STATUS.items() if isinstance(error, kind)), 500)


def install_error_handlers(app: FastAPI, style: ApiStyle) -> None:
    """Return every error of an app in the form of its API.

    :param app: the app
    :param style: the conventions of its API
    """

    def on_api_error(_: Request, error: Exception) -> Response:
        known = cast("ApiError", error)
        return style.error(known.status, known.detail, known.headers)

    def on_engine_error(_: Request, error: Exception) -> Response:
        return style.error(http_status(cast("EngineError", error)), str(error))

    def on_invalid_request(request: Request, error: Exception) -> Response:
        # FastAPI's default response repeats the input, which may be a prompt.
        known = cast("RequestValidationError", error).errors()[:MAX_VALIDATION_ERRORS]
        if any(item["loc"][:1] == ("path",) for item in known):
            return on_unknown_path(request)
        return style.invalid(
            [{"loc": item["loc"], "msg": item["msg"], "type": item["type"]} for item in known]
        )

    def on_unknown_path(request: Request) -> Response:
        # The path has the form of a route, but not an id that the route knows: as if there were no such route.
        if methods := _methods(request, without=request.scope.get("route")):
            return style.error(METHOD_NOT_ALLOWED, "Method Not Allowed", {"Allow": ", ".join(methods)})
        return style.error(404, "Not Found")

    def on_http_error(request: Request, error: Exception) -> Response:
        known = cast("HTTPException", error)
        if isinstance(error, InvalidBodyError):
            return style.invalid(error.errors)
        headers = dict(known.headers or {})
        if known.status_code == METHOD_NOT_ALLOWED:
            # Starlette names only the methods of the first route with this path.
            headers["Allow"] = ", ".join(_methods(request))
        return style.error(known.status_code, known.detail, headers)

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(EngineError, on_engine_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_error)


def _methods(request: Request, without: object = None) -> list[str]:
    """Methods of all routes that have a request's path.

    :param request: the request
    :param without: a route to leave out
    """
    found: set[str] = set()
    for route in request.app.routes:
        if route is not without and route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)
