"""The local platform as an ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

import airflow_provider_lamini
from airflow_provider_lamini.local import errors
from airflow_provider_lamini.local.faults import InjectFaults
from airflow_provider_lamini.local.guard import AnswerBroken, CountRequests, RequireKey
from airflow_provider_lamini.local.routes import (
    about,
    batches,
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

    from airflow_provider_lamini.local.connections import Connections
    from airflow_provider_lamini.local.platform import Platform


def create_app(platform: Platform, key: str, control_connections: Connections | None = None) -> ASGIApp:
    """Put the endpoints and what surrounds them together.

    :param platform: what is behind the endpoints
    :param key: the bearer key that requests must carry
    :param control_connections: the server's connections; where given, the control endpoints are there too
    """
    app = FastAPI(
        title="Lamini API, local platform",
        version=airflow_provider_lamini.__version__,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.platform = platform
    inference = (about, completions, batches, embeddings, chat, models)
    for resource in (*inference, datasets, blobs, memory_rag, classifiers, evaluation, training):
        app.include_router(resource.router)
    errors.install(app)
    app.add_middleware(AnswerBroken)
    guarded: ASGIApp = RequireKey(app, key)
    if control_connections is not None:
        for switches in (control.router, datasets.control_router):
            app.include_router(switches, include_in_schema=False)
        guarded = CountRequests(
            InjectFaults(guarded, platform.faults, control_connections), platform.requests
        )
    return guarded
