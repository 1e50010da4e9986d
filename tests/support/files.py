"""Fixtures for input files and output folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(params=["local", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> OutputFolder:
    """An output folder that is not there yet, of each kind."""
    if request.param == "local":
        return OutputFolder(str(tmp_path / "out" / "deep"))
    request.getfixturevalue("object_store")
    return OutputFolder("memory://bucket/out/deep")


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes | str], str]:
    """Writes an input file and returns its path."""

    def write(name: str, content: bytes | str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write
