"""Fixtures of a local platform in front of a tiny engine, one for each module of tests. A ``conftest.py`` imports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


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
