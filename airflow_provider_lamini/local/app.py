"""The ASGI app: all endpoints, the error handlers and the middleware around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

import airflow_provider_lamini
from airflow_provider_lamini.local.api_style import EMISSARY_PREFIX, LAMINI
from airflow_provider_lamini.local.edge.bodies import BoundBodies
from airflow_provider_lamini.local.edge.headers import CheckHeaders
from airflow_provider_lamini.local.edge.limits import Limits
from airflow_provider_lamini.local.emissary.app import create_emissary_app
from airflow_provider_lamini.local.emissary.routes import downloads
from airflow_provider_lamini.local.errors import install_error_handlers
from airflow_provider_lamini.local.faults import InjectFaults
from airflow_provider_lamini.local.middleware import CountRequests, HandleUnexpectedErrors, RequireKey
from airflow_provider_lamini.local.routes import (
    blobs,
    chat,
    classifiers,
    completions,
    control,
    datasets,
    embeddings,
    evaluation,
    memory_rag,
    models,
    training,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from airflow_provider_lamini.local.faults import Connections
    from airflow_provider_lamini.local.platform import LocalPlatform


def create_app(
    platform: LocalPlatform,
    key: str,
    control_connections: Connections | None = None,
    limits: Limits | None = None,
) -> ASGIApp:
    """Create the app.

    :param platform: the platform behind the endpoints
    :param key: the API key that requests must carry
    :param control_connections: the server's connections; if set, the control endpoints are served too
    :param limits: limits on what clients send; the default ones if not given
    """
    limits = limits or Limits()
    app = FastAPI(
        title="Lamini API, local platform",
        version=airflow_provider_lamini.__version__,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.platform = platform
    for resource in (
        completions,
        embeddings,
        chat,
        models,
        datasets,
        blobs,
        memory_rag,
        classifiers,
        evaluation,
        training,
    ):
        app.include_router(resource.router)
    app.include_router(downloads.router)
    emissary = create_emissary_app(platform)
    app.mount(EMISSARY_PREFIX, emissary)
    install_error_handlers(app, LAMINI)
    for part in (app, emissary):
        part.add_middleware(HandleUnexpectedErrors)
    guarded: ASGIApp = RequireKey(BoundBodies(app, limits), key)
    if control_connections is not None:
        app.include_router(control.router, include_in_schema=False)
        guarded = CountRequests(
            InjectFaults(guarded, platform.faults, control_connections), platform.request_counter
        )
    return CheckHeaders(guarded, limits.allowed_hosts)
