"""The manifest of an index: whole or not there, and with one writer at a time."""

from __future__ import annotations

import json
import os

import pytest

from airflow_provider_lamini.corpus.documents import DocumentVersion
from airflow_provider_lamini.corpus.index_manifest import (
    Building,
    IndexManifest,
    ManifestChangedError,
    ManifestFile,
    RefreshOutcome,
)
from airflow_provider_lamini.rows.errors import OutputError

FULL = IndexManifest(
    platform="http://localhost",
    model_name="m",
    index_id="12",
    files={"a.md": DocumentVersion(3, "ab" * 32, "7")},
    building=Building({"b.md": DocumentVersion(1, "cd" * 32)}, {"mark": "x", "numbers": {"files": 1}}),
    purpose=RefreshOutcome("run", "rebuilt", "a.md is gone", removed=1, replaced="12"),
    adding="c.md",
    outcome=RefreshOutcome("run", "built", "there was no index", added=1),
)


def test_written_content_is_read_back(folder):
    file = ManifestFile(folder.uri("index.json"))
    assert file.content is None
    assert file.known == {}
    file.write(FULL)
    again = ManifestFile(folder.uri("index.json"))
    assert again.content == file.content
    assert again.known == FULL.files
    again.change(adding=None)
    assert ManifestFile(folder.uri("index.json")).content.adding is None


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    """Beside documents nobody else would tidy up."""
    left = tmp_path / f".index.json.{'ab' * 8}.airflow-provider-lamini-tmp"
    left.write_text("half")
    file = ManifestFile(str(tmp_path / "index.json"))
    assert left.exists()
    os.utime(left, (0, 0))
    file.write(FULL)
    assert ManifestFile(file.uri).known == FULL.files
    assert not left.exists()


def test_a_second_writer_is_refused(folder):
    one, other = ManifestFile(folder.uri("index.json")), ManifestFile(folder.uri("index.json"))
    one.write(FULL)
    with pytest.raises(ManifestChangedError, match="Another task has written"):
        other.write(FULL)
    other = ManifestFile(folder.uri("index.json"))
    other.change(index_id="13")
    with pytest.raises(ManifestChangedError):
        one.change(index_id="14")
    assert ManifestFile(folder.uri("index.json")).content.index_id == "13"


def test_a_removed_manifest_is_noticed(folder):
    file = ManifestFile(folder.uri("index.json"))
    with pytest.raises(OutputError, match="is gone"):
        file.change(adding=None)
    file.write(FULL)
    folder.delete("index.json")
    with pytest.raises(ManifestChangedError):
        file.change(adding=None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"platform": "x"',
        json.dumps({"platform": "x", "model_name": "m", "version": 2}),
    ],
)
def test_a_file_that_is_not_a_manifest_is_never_overwritten(folder, content):
    folder.write("index.json", content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OutputError, match="not the manifest of an index"):
        ManifestFile(folder.uri("index.json"))


def test_a_folder_is_refused_and_a_bare_name_is_in_the_working_directory(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="is a folder"):
        ManifestFile(f"{tmp_path}/")
    monkeypatch.chdir(tmp_path)
    ManifestFile("index.json").write(FULL)
    assert (tmp_path / "index.json").exists()
