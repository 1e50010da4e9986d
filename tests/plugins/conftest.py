"""The pages' application, mounted as Airflow's API server mounts it, and users with Airflow's roles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_lamini.links import PAGES_PREFIX
from tests.support.emissary_api import EmissaryClient
from tests.support.knowledge_platform import knowledge  # noqa: F401 - a fixture
from tests.support.scripted_tuning import KEY, ScriptedTrainer, TunablePlatform, tunable_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

collect_ignore = [] if AIRFLOW_V_3_1_PLUS else ["test_jobs_page.py", "test_task_page.py"]

ROOT_PATH = "/team/airflow"
"""A path before all others, as an Airflow behind a reverse proxy has it."""


class Pages:
    """A browser of the pages, without a browser.

    :param client: sends requests below the pages' address
    """

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, path: str, role: str | None = "admin", **parameters: str) -> Any:
        """Send a request as a user with a role, which may be empty; ``None`` sends no token."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        headers = {}
        if role is not None:
            user = SimpleAuthManagerUser(username=f"a-{role}", role=role or None)
            headers["Authorization"] = f"Bearer {get_auth_manager().generate_jwt(user)}"
        return self.client.get(f"{ROOT_PATH}{PAGES_PREFIX}/{path}", params=parameters, headers=headers)

    def data(self, path: str, **parameters: str) -> Any:
        """Return the data that an administrator gets."""
        response = self.get(path, **parameters)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def pages(airflow_db: Path) -> Iterator[Pages]:
    """The pages of the plugin, below a path."""
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app

    from airflow_provider_lamini.plugins.pages import LlmPagesPlugin

    assert airflow_db.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-for-tests" * 4)
        airflow = FastAPI(root_path=ROOT_PATH)
        airflow.state.auth_manager = create_auth_manager()
        for app in LlmPagesPlugin.fastapi_apps:
            airflow.mount(app["url_prefix"], app["app"])
        with TestClient(airflow, raise_server_exceptions=False) as client:
            yield Pages(client)
        purge_cached_app()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    """A local platform that speaks both APIs, whose training jobs take no time."""
    with tunable_platform(tmp_path_factory.mktemp("pages") / "platform", ScriptedTrainer()) as running:
        yield running


@pytest.fixture
def platform(served: TunablePlatform, monkeypatch: pytest.MonkeyPatch) -> Iterator[TunablePlatform]:
    """The platform without jobs; the connections ``lamini_default`` and ``emissary_default`` lead to it."""
    for conn_type, path in (("lamini", ""), ("emissary", "/emissary")):
        fields = {"conn_type": conn_type, "host": f"{served.url}{path}", "password": KEY}
        if conn_type == "lamini":
            fields["extra"] = {"web_url": "https://web.test"}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_type.upper()}_DEFAULT", json.dumps(fields))
    yield served
    served.trainer.reset()
    served.http.post("/_control/reset").raise_for_status()


@pytest.fixture
def emissary(platform: TunablePlatform) -> Iterator[EmissaryClient]:
    """A client of the platform's other API."""
    with EmissaryClient(platform.url, KEY) as client:
        yield client
