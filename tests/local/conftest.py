"""A local platform in front of a tiny engine, shared by the tests that do not end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


@pytest.fixture(scope="module")
def engine() -> Iterator[Upstream]:
    """The engine behind the module's platform."""
    with upstream() as serving:
        yield serving


@pytest.fixture(scope="module")
def shared_platform(engine: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """The module's platform, as the tests before left it."""
    with local_platform(tmp_path_factory.mktemp("platform"), engine.url) as running:
        yield running


@pytest.fixture
def platform(shared_platform: LocalPlatform, engine: Upstream) -> Iterator[LocalPlatform]:
    """The module's platform, with no faults, holds or counts of an earlier test."""
    yield shared_platform
    engine.open.set()
    engine.tokens_per_second = 100_000
    shared_platform.control.reset()
    engine.prompts.clear()
    engine.bodies.clear()


@pytest.fixture
def http(platform: LocalPlatform) -> Iterator[httpx.Client]:
    """An HTTP client that sends the key."""
    with platform.client() as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder for a platform of the test's own."""
    return tmp_path / "platform"
