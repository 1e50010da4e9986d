"""What runs here: health and versions."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

import airflow_provider_lamini
from airflow_provider_lamini.local.guard import OPEN_PATHS
from airflow_provider_lamini.local.routes.common import as_answer

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

router = APIRouter()

CLIENT_VERSION = "3.4.6"
"""The official client's version that this platform is held against."""


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the platform serves; needs no key."""
    return {"status": "ok"}


@router.get("/v1/version")
async def version(request: Request) -> Response:
    """The platform's version, the client's, and the endpoints."""
    paths = sorted(set(request.app.openapi()["paths"]) - OPEN_PATHS)
    api: list[Json] = [{"name": _feature(path), "path": path} for path in paths]
    return as_answer({"server": airflow_provider_lamini.__version__, "client": CLIENT_VERSION, "api": api})


def _feature(path: str) -> str:
    """The word in a path that says what it is about: the one after the version."""
    parts = [part for part in path.split("/") if part]
    return parts[min(1, len(parts) - 1)]
