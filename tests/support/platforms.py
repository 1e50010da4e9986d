"""Fixtures of a local platform in front of a tiny engine, with a connection to it, for folders of tests.

A ``conftest.py`` imports them. All tests of the session in its folder share one platform.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


def platform_fixtures(scope: Literal["session", "module"]) -> tuple[Any, Any]:
    """The fixtures ``engine`` and ``shared_platform``.

    :param scope: how many tests share them
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
        """The platform, as the tests before left it."""
        with local_platform(tmp_path_factory.mktemp("platform"), engine.url) as running:
            yield running

    return engine, shared_platform


engine, shared_platform = platform_fixtures("session")


@pytest.fixture
def platform(
    shared_platform: LocalPlatform, engine: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalPlatform]:
    """The platform, without faults, holds, counts or jobs of an earlier test. ``lamini_default`` leads to it."""
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
    """Define a connection to a platform in the environment, with little patience.

    :param fields: fields of the connection with another value
    """
    given = {
        "conn_type": "lamini",
        "host": platform.url,
        "password": platform.key,
        "extra": {"retry_budget": 2, "model_loading_budget": 2},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given | fields))


def submissions(platform: LocalPlatform) -> int:
    """How many batches the platform was asked to start since it was reset."""
    return int(platform.control.stats()["requests"].get("POST /v1/batch_completions", 0))


def posts(platform: LocalPlatform) -> dict[str, int]:
    """What the platform was asked to work on since it was reset, by path."""
    requests: dict[str, int] = platform.control.stats()["requests"]
    return {
        path: count
        for path, count in requests.items()
        if path.startswith("POST") and "/_control/" not in path
    }


def totals(platform: LocalPlatform) -> list[int]:
    """How many rows each batch has, in the order in which they were started."""
    return [job["total"] for job in platform.control.jobs()]
