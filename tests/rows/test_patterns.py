"""A pattern finds the same files on a disk and on an object store."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.storage.local import LocalStore
from airflow_provider_lamini.rows.storage.objects import ObjectStore
from airflow_provider_lamini.rows.storage.patterns import path_matches

FILES = ["a.jsonl", "b.csv", "x/a.jsonl", "x/b.jsonl", "x/y/a.jsonl", "x[1]/a.jsonl", "Z/a b#1.jsonl", "x/.a"]
PATTERNS = {
    "*.jsonl": ["a.jsonl"],
    "**": FILES,
    "x/**": ["x/.a", "x/a.jsonl", "x/b.jsonl", "x/y/a.jsonl"],
    "**/*.jsonl": [name for name in FILES if name.endswith(".jsonl")],
    "x/**/a.jsonl": ["x/a.jsonl", "x/y/a.jsonl"],
    "?/*.jsonl": ["Z/a b#1.jsonl", "x/a.jsonl", "x/b.jsonl"],
    "x[[]1]/*": ["x[1]/a.jsonl"],
    "[!x]/*#*": ["Z/a b#1.jsonl"],
    "*/*/*": ["x/y/a.jsonl"],
    "*/nothing": [],
}


@pytest.fixture(params=["disk", "object store"])
def store(request, tmp_path):
    """A store with the files, and the folder that they are in."""
    if request.param == "disk":
        for name in FILES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return LocalStore(), str(tmp_path)
    files = MemoryFileSystem()
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    for name in FILES:
        files.pipe_file(f"/bucket/{name}", b"")
    return ObjectStore(files), "/bucket"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_the_same_files_on_each_store(store, pattern):
    files, folder = store
    found = [str(Path(info.path).relative_to(folder)) for info in files.glob(f"{folder}/{pattern}")]
    assert found == sorted(PATTERNS[pattern])
    assert found == sorted(name for name in FILES if path_matches(name, pattern))


@pytest.mark.parametrize("pattern", ["**.jsonl", "x**/a.jsonl", "***"])
def test_two_stars_within_a_name_are_refused_by_each_store(store, pattern):
    files, folder = store
    with pytest.raises(InputError, match=r"'\*\*' must be a whole part of the path"):
        files.glob(f"{folder}/{pattern}")
