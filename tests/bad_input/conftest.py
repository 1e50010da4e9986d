"""One platform for all tests of a module, and a folder for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bad_input.world import StrictEmissary, StrictPlatform, World, connection
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.scripted_platform import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def stub() -> Iterator[StrictPlatform]:
    """The platform, in the state that the previous test left."""
    platform = StrictPlatform()
    with serving(platform):
        yield platform


@pytest.fixture(scope="module")
def emissary_stub() -> Iterator[StrictEmissary]:
    """The same for Emissary."""
    platform = StrictEmissary()
    with serving(platform):
        yield platform


@pytest.fixture
def world(
    stub: StrictPlatform, emissary_stub: StrictEmissary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The platform and the folder of a test. The working directory is below it, so that relative paths stay inside."""
    stub.reset()
    emissary_stub.reset()
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", connection(stub.url))
    monkeypatch.setenv("AIRFLOW_CONN_EMISSARY_DEFAULT", connection(emissary_stub.url, conn_type="emissary"))
    (tmp_path / "at" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "at" / "work")
    return World(stub, emissary_stub, tmp_path)
