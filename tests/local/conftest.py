"""Fixtures: a local platform with a tiny upstream engine, shared by the tests that do not stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.platforms import engine, shared_platform  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.support.local_platform import LocalPlatform
    from tests.support.upstream import Upstream


@pytest.fixture
def platform(shared_platform: LocalPlatform, engine: Upstream) -> Iterator[LocalPlatform]:  # noqa: F811
    """The session's platform, without faults, holds, counts or jobs of earlier tests."""
    yield shared_platform
    engine.open.set()
    engine.tokens_per_second = 100_000
    shared_platform.control.reset()
    engine.prompts.clear()
    engine.bodies.clear()


@pytest.fixture
def http(platform: LocalPlatform) -> Iterator[httpx.Client]:
    """An HTTP client that sends the API key."""
    with platform.client() as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data folder for a platform that only this test uses."""
    return tmp_path / "platform"
