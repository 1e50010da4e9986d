"""Fixtures for a ``conftest.py``: a local platform with a tiny engine, and a connection to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


def platform_fixtures(scope: Literal["session", "module"]) -> tuple[Any, Any]:
    """Return the fixtures ``engine`` and ``shared_platform``.

    :param scope: which tests share them
    """

    @pytest.fixture(scope=scope)
    def engine() -> Iterator[Upstream]:
        """The engine behind the platform."""
        with upstream() as serving:
            yield serving

    @pytest.fixture(scope=scope)
    def shared_platform(
        engine: Upstream, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[LocalPlatform]:
        """The platform in the state that the previous test left."""
        with local_platform(tmp_path_factory.mktemp("platform"), engine.url) as running:
            yield running

    return engine, shared_platform


engine, shared_platform = platform_fixtures("session")


@pytest.fixture
def platform(
    shared_platform: LocalPlatform, engine: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalPlatform]:
    """The platform, without faults, holds, counts or jobs of earlier tests. ``lamini_default`` points to it."""
    connect(monkeypatch, shared_platform)
    yield shared_platform
    engine.open.set()
    engine.tokens_per_second = 100_000
    shared_platform.control.reset()
    engine.most_at_once = 0
    engine.prompts.clear()
    engine.bodies.clear()


def connect(
    monkeypatch: pytest.MonkeyPatch,
    platform: LocalPlatform,
    conn_id: str = "lamini_default",
    **fields: object,
) -> None:
    """Define a connection to a platform in the environment, with a short retry budget.

    :param fields: fields of the connection to replace
    """
    defaults = {
        "conn_type": "lamini",
        "host": platform.url,
        "password": platform.key,
        "extra": {"retry_budget": 2, "model_loading_budget": 2},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(defaults | fields))


def submissions(platform: LocalPlatform) -> int:
    """Return the number of batch submissions since the platform was reset."""
    return int(platform.control.stats()["requests"].get("POST /v1/batch_completions", 0))


def posts(platform: LocalPlatform) -> dict[str, int]:
    """Return the number of POST requests by path since the platform was reset."""
    requests: dict[str, int] = platform.control.stats()["requests"]
    return {
        path: count
        for path, count in requests.items()
        if path.startswith("POST") and "/_control/" not in path
    }


def totals(platform: LocalPlatform) -> list[int]:
    """Return the number of rows of each batch, in the order of submission."""
    return [job["total"] for job in platform.control.jobs()]
