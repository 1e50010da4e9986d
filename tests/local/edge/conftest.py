"""Fixtures: a platform with small limits, shared by the tests of the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.local_platform import LocalPlatform, local_platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.upstream import Upstream

LIMITS = (
    "--max-body",
    "1",
    "--max-upload",
    "2",
    "--client-timeout",
    "0.5",
    "--allowed-host",
    "models.example",
)


@pytest.fixture(scope="module")
def small_limits(engine: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """A platform that bounds bodies at 1 MiB, uploads at 2 MiB, and waits half a second for clients."""
    with local_platform(tmp_path_factory.mktemp("small"), engine.url, arguments=LIMITS) as running:
        yield running
