"""The ASGI app of the Emissary API, which is mounted into the platform's app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

import airflow_provider_lamini
from airflow_provider_lamini.local.api_style import EMISSARY
from airflow_provider_lamini.local.emissary.routes import (
    datasets,
    deployments,
    engines,
    inference,
    models,
    projects,
    training_jobs,
)
from airflow_provider_lamini.local.errors import install_error_handlers

if TYPE_CHECKING:
    from airflow_provider_lamini.local.platform import LocalPlatform


def create_emissary_app(platform: LocalPlatform) -> FastAPI:
    """Create the app.

    :param platform: the platform behind the endpoints
    """
    app = FastAPI(
        title="Emissary API, local platform",
        version=airflow_provider_lamini.__version__,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.platform = platform
    for resource in (models, projects, datasets, training_jobs, engines, deployments, inference):
        app.include_router(resource.router)
    install_error_handlers(app, EMISSARY)
    return app
