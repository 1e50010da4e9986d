from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.rows.errors import OutputError
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import check_input_apart
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import MANIFEST, part_name, remove_run, run_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.object_store import FaultyStore


def test_written_content_is_read_back(folder: OutputFolder):
    folder.write("part-00000.jsonl", b"one\ntwo\n")
    folder.write("_work/chunk-00000.round-0.json", (piece for piece in (b"th", b"ree")))
    assert folder.read("part-00000.jsonl") == b"one\ntwo\n"
    assert list(folder.lines("part-00000.jsonl")) == [b"one\n", b"two\n"]
    assert folder.read("_work/chunk-00000.round-0.json") == b"three"
    assert folder.names() == ["part-00000.jsonl"]
    assert folder.names(work=True) == ["_work/chunk-00000.round-0.json"]
    assert folder.exists("part-00000.jsonl")


def test_a_file_is_replaced_completely(folder: OutputFolder):
    folder.write("a.json", b"a long one")
    folder.write("a.json", b"short", durable=False)
    assert folder.read("a.json") == b"short"


def test_a_missing_folder_is_empty(folder: OutputFolder):
    assert folder.names() == []
    assert folder.names(work=True) == []
    assert not folder.exists("a.json")
    folder.delete("a.json")
    folder.clean()
    folder.close_work()
    with pytest.raises(FileNotFoundError):
        folder.read("a.json")
    with pytest.raises(FileNotFoundError):
        list(folder.lines("a.json"))


def test_a_failed_write_leaves_the_old_file(folder: OutputFolder):
    def pieces() -> Iterator[bytes]:
        yield b"x" * 10_000_000
        raise RuntimeError("the disk caught fire")

    folder.write("a.json", b"before")
    with pytest.raises(RuntimeError, match="fire"):
        folder.write("a.json", pieces())
    assert folder.read("a.json") == b"before"
    assert folder.names() == ["a.json"]


def test_a_large_file_is_written_in_blocks(folder: OutputFolder):
    folder.write("a.json", (b"x" * 1_000_000 for _ in range(12)))
    assert len(folder.read("a.json")) == 12_000_000


def test_a_removed_file_is_gone(folder: OutputFolder):
    folder.write("a.json", b"")
    folder.delete("a.json")
    assert not folder.exists("a.json")
    folder.delete("a.json")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "/a",
        "_work/../a",
        "_work/",
        "_work/a/b",
        "a\0",
        "a\n",
        ".a",
        "a..b",
        "ä",
        "a b",
        "x" * 201,
    ],
)
def test_names_that_could_leave_the_folder_are_refused(folder: OutputFolder, name):
    for act in (folder.read, folder.delete, folder.exists, folder.uri, lambda name: folder.write(name, b"")):
        with pytest.raises(OutputError, match="not a valid name for a file"):
            act(name)
    assert folder.names() == []


@pytest.mark.parametrize("wrong", [None, 5, "", "  ", "a\nb", "a\0b", "memory://bucket/../other", b"x"])
def test_a_value_that_is_not_a_folder_is_refused(wrong):
    with pytest.raises(OutputError, match="output folder"):
        OutputFolder(wrong)


def test_a_scheme_without_a_file_system_is_refused():
    with pytest.raises(OutputError, match="no file system for nosuch://"):
        OutputFolder("nosuch://bucket/out")


def test_a_file_system_that_refuses_its_connection_is_not_taken_for_a_missing_one(monkeypatch):
    from airflow.providers.common.compat.sdk import io

    def refuse(*_: object) -> None:
        raise ValueError("this filesystem needs a region")

    monkeypatch.setitem(io.get_fs.__globals__, "_register_filesystems", lambda: {"s3": refuse})
    with pytest.raises(
        OutputError, match=r"cannot be used for s3://bucket/out: this filesystem needs a region\."
    ):
        OutputFolder("s3://bucket/out")


@pytest.mark.usefixtures("object_store")
def test_uris_can_be_opened_by_users(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert OutputFolder("out/").uri("a.json") == f"{tmp_path}/out/a.json"
    assert OutputFolder("./x/../out").uri("a.json") == f"{tmp_path}/out/a.json"
    assert OutputFolder(f"file://{tmp_path}/out").uri("a.json") == f"{tmp_path}/out/a.json"
    assert OutputFolder("memory://bucket/out/").uri("a.json") == "memory://bucket/out/a.json"
    assert str(OutputFolder("/")) == "/"
    assert OutputFolder("/").uri("a.json") == "/a.json"


def test_the_error_names_a_path_that_cannot_be_a_folder(tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    folder = OutputFolder(f"{tmp_path}/out")
    with pytest.raises(OutputError, match=rf"{tmp_path}/out/a\.json cannot be written"):
        folder.write("a.json", b"")
    assert not folder.exists("a.json")


def test_only_our_old_temporary_files_are_removed(tmp_path: Path):
    folder = OutputFolder(str(tmp_path))
    folder.write("a.json", b"")
    folder.write("_work/b.json", b"")
    hour_ago = time.time() - 3700
    ours = ".part-00000.jsonl.0123456789abcdef.airflow-provider-lamini-tmp"
    young = ".part-00001.jsonl.0123456789abcdef.airflow-provider-lamini-tmp"
    foreign = [".airflow-provider-lamini-tmp", "x.airflow-provider-lamini-tmp", ".part.tmp", "b.txt"]
    for name in (ours, f"_work/{ours}", young, *foreign):
        (tmp_path / name).write_text("half")
        if name != young:
            os.utime(tmp_path / name, (hour_ago, hour_ago))
    folder.clean()
    assert sorted(folder.names()) == sorted([young, "a.json", *foreign])
    assert folder.names(work=True) == ["_work/b.json"]
    folder.clean(older_than=0)
    assert sorted(folder.names()) == sorted(["a.json", *foreign])


def test_a_folder_that_cannot_be_listed_stays_as_it_is(tmp_path: Path):
    """Housekeeping fails no task: a record in such a folder can still be read."""
    (tmp_path / "file").write_text("")
    OutputFolder(str(tmp_path / "file")).clean()
    OutputFolder(str(tmp_path / "none")).clean()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_work_folder_is_removed_only_when_it_is_empty(tmp_path: Path):
    folder = OutputFolder(str(tmp_path))
    folder.write("_work/b.json", b"")
    folder.close_work()
    assert folder.exists("_work/b.json")
    folder.delete("_work/b.json")
    folder.close_work()
    assert list(tmp_path.iterdir()) == []


def test_the_write_check_leaves_nothing_behind(folder: OutputFolder):
    folder.try_writing()
    assert folder.names() == []


def test_a_store_without_permission_to_delete_can_be_written_to(object_store: FaultyStore):
    folder = OutputFolder("memory://team/out")
    object_store.fail_while("rm_file", lambda: True, PermissionError("Access Denied"))
    folder.try_writing()
    assert b"may be removed" in folder.read(*folder.names())


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (PermissionError("Access Denied"), "its store does not permit reading or writing there"),
        (
            FileNotFoundError("The specified bucket does not exist"),
            "it does not exist. Create its bucket first",
        ),
    ],
)
def test_the_error_names_a_store_that_cannot_be_written_to(object_store: FaultyStore, error, problem):
    object_store.fail_while("pipe_file", lambda: True, error)
    with pytest.raises(OutputError, match=f"memory://team/out .*{problem}"):
        OutputFolder("memory://team/out").try_writing()


def test_an_output_folder_must_not_contain_the_input(file, tmp_path: Path):
    source = open_source(file("in/a.jsonl", "{}"))
    with pytest.raises(OutputError, match="contains files of the input"):
        check_input_apart(source, OutputFolder(f"{tmp_path}/in/"))
    check_input_apart(source, OutputFolder(f"{tmp_path}/out"))
    check_input_apart(open_source(["x"]), OutputFolder(f"{tmp_path}/in"))


def test_a_folder_that_cannot_exist_is_one_error():
    lock = OutputFolder("/proc/nowhere").lock()
    with pytest.raises(OutputError, match="/proc/nowhere cannot be written to: No such file") as caught, lock:
        raise AssertionError("there is no such folder")
    assert caught.value.__suppress_context__


def test_the_manifest_of_a_run_is_removed_before_anything_else(object_store: FaultyStore):
    """While it exists, it says that the parts do."""
    folder = OutputFolder("memory://team/out")
    names = [MANIFEST, part_name(0, "jsonl"), part_name(1, "jsonl")]
    for name in names:
        folder.write(name, b"")
    object_store.fail("rm_file", OSError("no connection"))
    with pytest.raises(OSError, match="no connection"):
        remove_run(folder)
    assert run_files(folder) == names
    remove_run(folder)
    assert run_files(folder) == []
