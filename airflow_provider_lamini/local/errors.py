"""The platform's errors: its private status codes, and bodies that hold no prompt."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
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

JOB_NOT_FOUND: Final = 498
MODEL_LOADING: Final = 513
MODEL_NOT_FOUND: Final = 594

SHOWN_ERRORS: Final = 20
"""Most errors of one request body that are told."""


class PlatformError(Exception):
    """An answer that is an error.

    :param status: the HTTP status
    :param detail: what happened, for a person; never a prompt, never a key
    :param headers: more headers
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class JobNotFoundError(PlatformError):
    """There is no such job."""

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


def place_of(error: BaseException) -> str:
    """Kind and place of an unexpected error, without its text, which may hold a prompt."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"


def status_of(error: EngineError | PlatformError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, PlatformError):
        return error.status
    return next((code for kind, code in _ENGINE_STATUS.items() if isinstance(error, kind)), 500)


def install(app: FastAPI) -> None:
    """Make every error of an app a platform error."""

    def platform_error(_: Request, error: Exception) -> JSONResponse:
        known = cast("PlatformError", error)
        return JSONResponse({"detail": known.detail}, known.status, known.headers)

    def engine_error(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_of(cast("EngineError", error)))

    def invalid(_: Request, error: Exception) -> JSONResponse:
        # The framework's own answer repeats the input, which may be a prompt.
        known = cast("RequestValidationError", error).errors()[:SHOWN_ERRORS]
        errors = [{"loc": one["loc"], "msg": one["msg"], "type": one["type"]} for one in known]
        return JSONResponse({"detail": errors}, 422)

    def http_error(_: Request, error: Exception) -> JSONResponse:
        known = cast("HTTPException", error)
        return JSONResponse({"detail": known.detail}, known.status_code, known.headers)

    app.add_exception_handler(PlatformError, platform_error)
    app.add_exception_handler(EngineError, engine_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
