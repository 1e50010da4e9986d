"""The crash harness: a local platform, and a process that forks another one for each phase of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.crash.case import world
from tests.support.crash.life import Harness
from tests.support.crash.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if item.nodeid.startswith("tests/faults/"):
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """The crash harness, shared by the tests of a module."""
    home = tmp_path_factory.mktemp("faults")
    zygote = Zygote("tests.support.crash.cases", home / "zygote.log")
    try:
        with world(home / "platform") as platforms:
            yield Harness(zygote, platforms, home / "lives")
    finally:
        zygote.close()
