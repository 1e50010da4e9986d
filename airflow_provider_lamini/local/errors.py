"""The platform's errors and the HTTP responses they become. No response body contains a prompt."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

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

    from airflow_provider_lamini.local.api_style import ApiStyle

JOB_NOT_FOUND: Final = 498
MODEL_LOADING: Final = 513
MODEL_NOT_FOUND: Final = 594

MAX_VALIDATION_ERRORS: Final = 20
"""Maximum number of validation errors returned for one request body."""


class PlatformError(Exception):
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


class JobNotFoundError(PlatformError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(JOB_NOT_FOUND, f"Job {job_id} not found.")


class ModelLoadingError(PlatformError):
    """The model is still being downloaded or loaded."""

    def __init__(self, model_name: str) -> None:
        super().__init__(MODEL_LOADING, f"Downloading {model_name}: the model is not ready, try again later.")


_ENGINE_STATUS: dict[type[EngineError], int] = {
    ModelNotFound: MODEL_NOT_FOUND,
    PromptTooLong: 400,
    BadGenerationRequest: 400,
    EngineUnavailable: 503,
}


def describe_safely(error: BaseException) -> str:
    """Type and code location of an unexpected error. Its message is left out: it may contain a prompt."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    locations = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {locations}"


def http_status(error: EngineError | PlatformError) -> int:
    """HTTP status that an error is returned with."""
    if isinstance(error, PlatformError):
        return error.status
    return next((code for kind, code in _ENGINE_STATUS.items() if isinstance(error, kind)), 500)


def install_error_handlers(app: FastAPI, style: ApiStyle) -> None:
    """Return every error of an app in the form of its API.

    :param app: the app
    :param style: the conventions of its API
    """

    def on_platform_error(_: Request, error: Exception) -> Response:
        known = cast("PlatformError", error)
        return style.error(known.status, known.detail, known.headers)

    def on_engine_error(_: Request, error: Exception) -> Response:
        return style.error(http_status(cast("EngineError", error)), str(error))

    def on_invalid_request(_: Request, error: Exception) -> Response:
        # FastAPI's default response repeats the input, which may be a prompt.
        known = cast("RequestValidationError", error).errors()[:MAX_VALIDATION_ERRORS]
        return style.invalid(
            [{"loc": item["loc"], "msg": item["msg"], "type": item["type"]} for item in known]
        )

    def on_http_error(_: Request, error: Exception) -> Response:
        known = cast("HTTPException", error)
        return style.error(known.status_code, known.detail, known.headers)

    app.add_exception_handler(PlatformError, on_platform_error)
    app.add_exception_handler(EngineError, on_engine_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_error)
