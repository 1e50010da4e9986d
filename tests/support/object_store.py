"""An object store in memory."""

from __future__ import annotations

from importlib import import_module

import pytest
from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture
def object_store() -> MemoryFileSystem:
    """An empty store behind ``memory://``, set up for Airflow as a provider's would be."""
    try:
        io = import_module("airflow.sdk.io")
    except ImportError:
        io = import_module("airflow.io.store")
    files = MemoryFileSystem()
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    io.attach("memory", fs=files)
    return files
