"""Tests for the model cache: pulls are atomic, damage is detected, and errors say what to run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.models.catalogue import CATALOGUE, TEXT, VECTORS, ModelFile, find
from airflow_provider_lamini.local.models.files import (
    ChecksumMismatch,
    ModelMissing,
    PullFailed,
    UnknownModel,
    UnreadableModel,
)
from airflow_provider_lamini.local.models.progress import ConsoleProgress, PullProgress
from airflow_provider_lamini.local.models.sources import parse_source
from airflow_provider_lamini.local.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.local.models.conftest import Hub

CUSTOM = "me/my-model"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache")


@pytest.fixture
def custom(tmp_path: Path, gguf: bytes) -> Path:
    path = tmp_path / "custom.gguf"
    path.write_bytes(gguf)
    return path


def cached_names(store: ModelStore) -> set[str]:
    """Return the names of all entries of the cache except its lock file."""
    return {path.name for path in store.root.iterdir()} - {".lock"}


def test_the_catalogue_pins_every_file_and_every_wheel() -> None:
    for model in CATALOGUE:
        assert "==" in model.wheel
        assert model.licence == "Apache-2.0"
        assert all(file.sha256 and file.size and file.member for file in model.files)
        assert find(model.name) is model
        assert all(find(alias) is model for alias in model.aliases)
    assert find("nobody/nothing") is None


def test_an_environment_variable_sets_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMINI_LOCAL_CACHE", str(tmp_path / "elsewhere"))
    assert ModelStore().root == tmp_path / "elsewhere"
    monkeypatch.delenv("LAMINI_LOCAL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelStore().root == tmp_path / ".cache/airflow-provider-lamini"


def test_in_an_empty_cache_every_model_of_the_catalogue_is_missing(store: ModelStore) -> None:
    assert [(status.name, status.present, status.verified) for status in store.status()] == [
        (TEXT.name, False, None),
        (VECTORS.name, False, None),
    ]
    assert not store.root.exists(), "reading the status writes nothing"


def test_the_error_for_a_missing_model_has_the_command_to_run(store: ModelStore) -> None:
    with pytest.raises(ModelMissing, match=r"is not in the cache .*Run: lamini-local pull$"):
        store.require(TEXT.aliases[0])
    with pytest.raises(ModelMissing, match=r"Run: lamini-local pull me/my-model$"):
        store.require(CUSTOM)


def test_a_custom_model_is_pulled_from_a_path(store: ModelStore, custom: Path, gguf: bytes) -> None:
    output = io.StringIO()
    status = store.pull(CUSTOM, source=parse_source(str(custom)), progress=ConsoleProgress(output))
    assert status.present
    assert status.use == "text"
    assert store.require(CUSTOM).read_bytes() == gguf
    assert [(s.name, s.verified) for s in store.status() if s.present] == [(CUSTOM, True)]
    assert f"{CUSTOM} is ready" in output.getvalue()


def test_a_custom_model_is_pulled_from_a_hub(store: ModelStore, hub: Hub, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/q4.gguf"] = gguf
    store.pull(CUSTOM, source=parse_source("hub:owner/repo/q4.gguf"), sha256=hashlib.sha256(gguf).hexdigest())
    receipt = json.loads((store.require(CUSTOM).parent / "receipt.json").read_bytes())
    assert receipt["source"] == "hub:owner/repo@main/q4.gguf"


def test_a_wrong_checksum_leaves_the_cache_unchanged(store: ModelStore, custom: Path) -> None:
    store.pull(CUSTOM, source=parse_source(str(custom)))
    before = store.require(CUSTOM).stat().st_mtime_ns
    with pytest.raises(ChecksumMismatch):
        store.pull(CUSTOM, source=parse_source(str(custom)), sha256="0" * 64)
    assert store.require(CUSTOM).stat().st_mtime_ns == before
    assert cached_names(store) == {"me--my-model"}


def test_a_custom_model_can_be_replaced(store: ModelStore, custom: Path, gguf: bytes) -> None:
    store.pull(CUSTOM, source=parse_source(str(custom)))
    custom.write_bytes(gguf + b"more")
    store.pull(CUSTOM, source=parse_source(str(custom)))
    assert store.require(CUSTOM).read_bytes() == gguf + b"more"
    assert cached_names(store) == {"me--my-model"}


def test_a_file_that_is_not_gguf_is_rejected(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"<html>not found</html>")
    with pytest.raises(UnreadableModel, match="Give a GGUF file"):
        store.pull(CUSTOM, source=parse_source(str(tmp_path / "x.gguf")))
    assert cached_names(store) == set()


def test_a_different_file_is_not_accepted_for_a_model_of_the_catalogue(
    store: ModelStore, custom: Path
) -> None:
    with pytest.raises(ChecksumMismatch, match=r"the transfer was interrupted, or it is a different file"):
        store.pull(TEXT.name, source=parse_source(str(custom)))
    assert cached_names(store) == set()


def test_an_unknown_name_requires_a_source(store: ModelStore) -> None:
    with pytest.raises(UnknownModel, match=r"no model 'me/my-model'.*--from PATH"):
        store.pull(CUSTOM)


@pytest.mark.parametrize("name", ["../../etc", ".hidden", "", "a b", "a\0b"])
def test_a_name_cannot_escape_from_the_cache(store: ModelStore, custom: Path, name: str) -> None:
    with pytest.raises(UnknownModel, match="not a valid model name"):
        store.pull(name, source=parse_source(str(custom)))


@pytest.mark.parametrize(
    ("damage", "message", "found_without_checksums"),
    [("truncated", "size of", True), ("deleted", "is missing", True), ("flipped", "checksum of", False)],
)
def test_damage_is_detected(
    store: ModelStore, custom: Path, damage: str, message: str, *, found_without_checksums: bool
) -> None:
    path = store.pull(CUSTOM, source=parse_source(str(custom))).path
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"!")
    (status,) = [status for status in store.status() if status.name == CUSTOM]
    assert not status.present
    assert status.verified is False
    assert message in (status.problem or "")
    quick = [status for status in store.status(verify=False) if status.name == CUSTOM]
    assert quick[0].present is not found_without_checksums


def test_a_cache_that_cannot_be_written_raises_pull_failed(tmp_path: Path, custom: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PullFailed, match="cannot be written"):
        ModelStore(tmp_path / "file").pull(CUSTOM, source=parse_source(str(custom)))


@dataclass
class SlowSource:
    """A slow source that counts its fetches."""

    content: bytes
    fetches: int = 0
    description: str = "slow"

    def fetch(self, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
        self.fetches += 1
        progress.start("slow", None)
        time.sleep(0.3)
        (folder / files[0].name).write_bytes(self.content)
        progress.end()


def test_concurrent_pulls_wait_for_each_other(store: ModelStore, gguf: bytes) -> None:
    source = SlowSource(gguf)
    outputs = [io.StringIO(), io.StringIO()]
    threads = [
        threading.Thread(
            target=store.pull, args=(CUSTOM,), kwargs={"source": source, "progress": ConsoleProgress(output)}
        )
        for output in outputs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert source.fetches == 2
    assert store.require(CUSTOM).read_bytes() == gguf
    assert sum("Another pull is running" in output.getvalue() for output in outputs) == 1


KILLED_PULL = """
import os, sys
from pathlib import Path
from airflow_provider_lamini.local.models.store import ModelStore

class DyingSource:
    description = "dying"
    def fetch(self, files, folder, progress):
        (folder / files[0].name).write_bytes(b"GGUF half")
        os._exit(9)

ModelStore(Path(sys.argv[1])).pull("me/my-model", source=DyingSource())
"""


def test_a_killed_pull_leaves_no_model_and_the_next_pull_cleans_up(store: ModelStore, custom: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_PULL, str(store.root)],
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 9
    with pytest.raises(ModelMissing):
        store.require(CUSTOM)
    assert any(name.startswith(".pull-") for name in cached_names(store))
    store.pull(CUSTOM, source=parse_source(str(custom)))
    assert cached_names(store) == {"me--my-model"}


@pytest.mark.models
def test_models_of_the_catalogue_are_not_pulled_again() -> None:
    """Uses the user's own cache, so that the models are downloaded at most once."""
    store = ModelStore()
    for model in CATALOGUE:
        store.pull(model.name)
        output = io.StringIO()
        status = store.pull(model.name, progress=ConsoleProgress(output))
        assert status.present
        assert "is already in the cache and intact" in output.getvalue()
    assert [status.verified for status in store.status()][:2] == [True, True]
