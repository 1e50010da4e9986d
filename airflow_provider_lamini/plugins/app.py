"""The pages' application: routes, permissions, and what browsers may do with the responses.

The pages themselves are files without data and need no login, like Airflow's own. Every route below ``/api`` has the
permission that Airflow's API requires for the same data.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_connection,
    requires_access_dag,
)
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_lamini.plugins import jobs, task
from airflow_provider_lamini.plugins.bounded import PageError
from airflow_provider_lamini.plugins.stored_task import TaskKey

STATIC = Path(__file__).parent / "static"
PAGES = ("jobs", "task")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Nothing from other hosts, no inline scripts or styles, and only Airflow itself may show the pages in a frame."""

connections = APIRouter(
    prefix="/api/connections", dependencies=[Depends(requires_access_connection(method="GET"))]
)


@connections.get("")
def list_connections(user: GetUserDep) -> JSONResponse:
    """List the connections to platforms that the user may read."""
    return JSONResponse(jobs.list_connections(user))


@connections.get("/{connection_id}")
def describe_connection(connection_id: str) -> JSONResponse:
    """Say what can be listed with a connection."""
    return JSONResponse(jobs.describe_connection(connection_id))


@connections.get("/{connection_id}/scopes")
def list_scopes(connection_id: str, kind: str) -> JSONResponse:
    """List what the jobs of a kind belong to."""
    return JSONResponse(jobs.list_scopes(connection_id, kind))


@connections.get("/{connection_id}/jobs")
def list_jobs(connection_id: str, kind: str, scope: str = "") -> JSONResponse:
    """List the newest jobs of a kind."""
    return JSONResponse(jobs.list_jobs(connection_id, kind, scope))


@connections.get("/{connection_id}/job")
def read_job(connection_id: str, kind: str, job_id: str) -> JSONResponse:
    """Read one job with its loss curve."""
    return JSONResponse(jobs.read_job(connection_id, kind, job_id))


tasks = APIRouter(
    prefix="/api/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}",
    dependencies=[
        Depends(requires_access_dag(method="GET", access_entity=entity))
        for entity in (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
    ],
)
"""What a task has left is in its XComs, or at a path that is in one, so that both permissions are needed."""


@tasks.get("")
def show_task(dag_id: str, run_id: str, task_id: str, map_index: int) -> JSONResponse:
    """Show what a task has done."""
    return JSONResponse(task.show_task(_key(dag_id, run_id, task_id, map_index)))


@tasks.get("/jobs")
def show_states(dag_id: str, run_id: str, task_id: str, map_index: int, user: GetUserDep) -> JSONResponse:
    """Show the states of a task's jobs."""
    return JSONResponse(task.show_states(_key(dag_id, run_id, task_id, map_index), user))


@tasks.get("/files/{name}")
def show_file(
    dag_id: str, run_id: str, task_id: str, map_index: int, name: Literal["manifest", "report"]
) -> JSONResponse:
    """Show the text of a file that a task has written."""
    return JSONResponse(task.show_file(_key(dag_id, run_id, task_id, map_index), name))


def _key(dag_id: str, run_id: str, task_id: str, map_index: int) -> TaskKey:
    return TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def make_app() -> FastAPI:
    """Make the application that Airflow's API server mounts."""
    app = FastAPI(title="LLM pages", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_add_headers)
    app.exception_handler(PageError)(_refuse)
    app.include_router(connections)
    app.include_router(tasks)
    for page in PAGES:
        app.add_api_route(f"/{page}", _page(f"{page}.html"), methods=["GET"], response_class=FileResponse)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def _page(name: str) -> Callable[[], FileResponse]:
    def page() -> FileResponse:
        return FileResponse(STATIC / name)

    return page


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    # Files are asked for again after an upgrade; data are not kept at all.
    response.headers["Cache-Control"] = "no-store" if "/api/" in request.url.path else "no-cache"
    return response


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, PageError) else 500
    return JSONResponse({"detail": str(error)}, status_code=status)
