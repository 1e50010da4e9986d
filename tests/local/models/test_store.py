"""The cache of models: whole or not at all, and plain words where something is missing."""

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
from airflow_provider_lamini.local.models.errors import (
    ChecksumMismatch,
    ModelMissing,
    PullFailed,
    UnknownModel,
    UnreadableModel,
)
from airflow_provider_lamini.local.models.progress import ConsoleProgress, Progress
from airflow_provider_lamini.local.models.sources import parse_source
from airflow_provider_lamini.local.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.local.models.conftest import Hub

MINE = "me/my-model"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache")


@pytest.fixture
def mine(tmp_path: Path, gguf: bytes) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(gguf)
    return path


def entries(store: ModelStore) -> set[str]:
    """What lies in the cache, but for its lock."""
    return {path.name for path in store.root.iterdir()} - {".lock"}


def test_the_catalogue_pins_every_file_and_every_wheel() -> None:
    for model in CATALOGUE:
        assert "==" in model.wheel
        assert model.licence == "Apache-2.0"
        assert all(file.sha256 and file.size and file.member for file in model.files)
        assert find(model.name) is model
        assert all(find(alias) is model for alias in model.aliases)
    assert find("nobody/nothing") is None


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMINI_LOCAL_CACHE", str(tmp_path / "elsewhere"))
    assert ModelStore().root == tmp_path / "elsewhere"
    monkeypatch.delenv("LAMINI_LOCAL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelStore().root == tmp_path / ".cache/airflow-provider-lamini"


def test_an_empty_cache_names_the_catalogue_as_missing(store: ModelStore) -> None:
    assert [(status.name, status.present, status.verified) for status in store.status()] == [
        (TEXT.name, False, None),
        (VECTORS.name, False, None),
    ]
    assert not store.root.exists(), "asking writes nothing"


def test_a_missing_model_comes_with_the_command_to_run(store: ModelStore) -> None:
    with pytest.raises(ModelMissing, match=r"is not in the cache .*Run: lamini-local pull$"):
        store.require(TEXT.aliases[0])
    with pytest.raises(ModelMissing, match=r"Run: lamini-local pull me/my-model$"):
        store.require(MINE)


def test_a_model_of_ones_own_is_pulled_from_a_path(store: ModelStore, mine: Path, gguf: bytes) -> None:
    said = io.StringIO()
    status = store.pull(MINE, source=parse_source(str(mine)), progress=ConsoleProgress(said))
    assert status.present
    assert status.use == "text"
    assert store.require(MINE).read_bytes() == gguf
    assert [(s.name, s.verified) for s in store.status() if s.present] == [(MINE, True)]
    assert f"{MINE} is ready" in said.getvalue()


def test_a_model_of_ones_own_is_pulled_from_a_hub(store: ModelStore, hub: Hub, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/q4.gguf"] = gguf
    store.pull(MINE, source=parse_source("hub:owner/repo/q4.gguf"), sha256=hashlib.sha256(gguf).hexdigest())
    receipt = json.loads((store.require(MINE).parent / "receipt.json").read_bytes())
    assert receipt["source"] == "hub:owner/repo@main/q4.gguf"


def test_a_wrong_checksum_leaves_the_cache_as_it_was(store: ModelStore, mine: Path) -> None:
    store.pull(MINE, source=parse_source(str(mine)))
    before = store.require(MINE).stat().st_mtime_ns
    with pytest.raises(ChecksumMismatch):
        store.pull(MINE, source=parse_source(str(mine)), sha256="0" * 64)
    assert store.require(MINE).stat().st_mtime_ns == before
    assert entries(store) == {"me--my-model"}


def test_a_model_of_ones_own_can_be_replaced(store: ModelStore, mine: Path, gguf: bytes) -> None:
    store.pull(MINE, source=parse_source(str(mine)))
    mine.write_bytes(gguf + b"more")
    store.pull(MINE, source=parse_source(str(mine)))
    assert store.require(MINE).read_bytes() == gguf + b"more"
    assert entries(store) == {"me--my-model"}


def test_what_is_no_gguf_file_is_refused(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"<html>not found</html>")
    with pytest.raises(UnreadableModel, match="no GGUF file"):
        store.pull(MINE, source=parse_source(str(tmp_path / "x.gguf")))
    assert entries(store) == set()


def test_another_file_is_not_taken_for_a_model_of_the_catalogue(store: ModelStore, mine: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=r"the transfer broke off, or it is another file"):
        store.pull(TEXT.name, source=parse_source(str(mine)))
    assert entries(store) == set()


def test_a_name_that_nobody_knows_needs_a_source(store: ModelStore) -> None:
    with pytest.raises(UnknownModel, match=r"no model 'me/my-model'.*--from PATH"):
        store.pull(MINE)


@pytest.mark.parametrize("name", ["../../etc", ".hidden", "", "a b", "a\0b"])
def test_a_name_cannot_lead_out_of_the_cache(store: ModelStore, mine: Path, name: str) -> None:
    with pytest.raises(UnknownModel, match="cannot be a model's name"):
        store.pull(name, source=parse_source(str(mine)))


@pytest.mark.parametrize(
    ("damage", "said", "seen_without_checksums"),
    [("cut", "another size", True), ("gone", "is gone", True), ("flipped", "another checksum", False)],
)
def test_damage_is_found(
    store: ModelStore, mine: Path, damage: str, said: str, *, seen_without_checksums: bool
) -> None:
    path = store.pull(MINE, source=parse_source(str(mine))).path
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content[:-1] + b"!")
    (status,) = [status for status in store.status() if status.name == MINE]
    assert not status.present
    assert status.verified is False
    assert said in (status.problem or "")
    quick = [status for status in store.status(verify=False) if status.name == MINE]
    assert quick[0].present is not seen_without_checksums


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PullFailed, match="cannot be written"):
        ModelStore(tmp_path / "file").pull(MINE, source=parse_source(str(mine)))


@dataclass
class SlowSource:
    """Takes its time, and counts how often it is asked."""

    content: bytes
    asked: int = 0
    description: str = "slow"

    def fetch(self, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
        self.asked += 1
        progress.start("slow", None)
        time.sleep(0.3)
        (into / wanted[0].name).write_bytes(self.content)
        progress.end()


def test_two_pulls_at_once_wait_for_each_other(store: ModelStore, gguf: bytes) -> None:
    source = SlowSource(gguf)
    said = [io.StringIO(), io.StringIO()]
    threads = [
        threading.Thread(
            target=store.pull, args=(MINE,), kwargs={"source": source, "progress": ConsoleProgress(out)}
        )
        for out in said
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert source.asked == 2
    assert store.require(MINE).read_bytes() == gguf
    assert sum("Another pull is under way" in out.getvalue() for out in said) == 1


KILLED = """
import os, sys
from pathlib import Path
from airflow_provider_lamini.local.models.store import ModelStore

class Dying:
    description = "dying"
    def fetch(self, wanted, into, progress):
        (into / wanted[0].name).write_bytes(b"GGUF half")
        os._exit(9)

ModelStore(Path(sys.argv[1])).pull("me/my-model", source=Dying())
"""


def test_a_pull_that_is_killed_leaves_no_model_and_the_next_one_cleans_up(
    store: ModelStore, mine: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.root)],
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 9
    with pytest.raises(ModelMissing):
        store.require(MINE)
    assert any(name.startswith(".pull-") for name in entries(store))
    store.pull(MINE, source=parse_source(str(mine)))
    assert entries(store) == {"me--my-model"}


@pytest.mark.models
def test_the_catalogue_is_pulled_once_and_then_left_alone() -> None:
    """With the user's own cache, so that the models travel at most once."""
    store = ModelStore()
    for model in CATALOGUE:
        store.pull(model.name)
        again = io.StringIO()
        status = store.pull(model.name, progress=ConsoleProgress(again))
        assert status.present
        assert "is there and whole" in again.getvalue()
    assert [status.verified for status in store.status()][:2] == [True, True]
