"""The plugin that Airflow loads in each of its processes. Only the API server, at the first request, loads more than this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_lamini.compat import shows_pages
from airflow_provider_lamini.links import PAGES_PREFIX, TASK_PAGE, ui_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class LazyApplication:
    """An ASGI application that is made when the first request arrives."""

    def __init__(self) -> None:
        self._application: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._application is None:
            self._application = await asyncio.to_thread(_make_application)
        await self._application(scope, receive, send)


def _make_application() -> Application:
    from airflow_provider_lamini.plugins.app import make_app

    return make_app()


def _view(name: str, route: str, page: str, **options: object) -> dict[str, object]:
    """A view of Airflow's UI that shows a page of ours.

    :param name: its title
    :param route: its part of the address in the UI
    :param page: the page, below our prefix; with placeholders that the UI fills
    :param options: the rest of what Airflow takes
    """
    return {"name": name, "href": f"{ui_path()}{PAGES_PREFIX}/{page}", "url_route": route, **options}


class LlmPagesPlugin(AirflowPlugin):
    """Adds the pages. Before Airflow 3.1 it is empty."""

    name = "llm_pages"
    if shows_pages():
        fastapi_apps = [{"name": "LLM pages", "app": LazyApplication(), "url_prefix": PAGES_PREFIX}]
        external_views = [
            _view("LLM jobs", "llm_jobs", "jobs", destination="nav", category="browse"),
            _view(
                "LLM results",
                TASK_PAGE,
                "task?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
                destination="task_instance",
            ),
        ]
