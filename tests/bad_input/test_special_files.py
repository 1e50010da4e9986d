"""Pipes, devices and links where files are expected: nothing blocks, has no end, or is written elsewhere."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

import pytest

from airflow_provider_lamini.rows.errors import InputError, RowError
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.local import LocalStore, _UnsizedFile
from tests.bad_input.cases import Case

BATCH = "BatchInferenceOperator"


@contextmanager
def seconds(number):
    """Fail instead of waiting for a pipe for ever."""

    def late(*_):
        raise AssertionError("it blocks")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(number)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


SPECIAL = {"a pipe": pipe, "a device": device, "a folder": folder}


@pytest.mark.parametrize("what", SPECIAL)
def test_a_special_file_instead_of_the_ledger_is_refused(world, what):
    out = world.folder / "out"
    out.mkdir()
    SPECIAL[what](out / "_ledger.json")
    with seconds(20):
        world.assert_rejected(Case(BATCH, {"input": ["a"], "output": "{here}/out"}, ("_ledger.json",)))


@pytest.mark.parametrize("what", SPECIAL)
def test_a_special_file_is_neither_opened_nor_read(tmp_path, what):
    path = tmp_path / "rows.jsonl"
    SPECIAL[what](path)
    store = LocalStore()
    with seconds(20):
        for use in (store.open, store.read, store.info):
            with pytest.raises(RowError, match="not a regular file"):
                use(str(path))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/proc/self/mem", "/dev/full"])
def test_a_device_is_not_an_input(world, path):
    with seconds(20):
        world.assert_rejected(Case(BATCH, {"input": path}, ("input", "unknown file format")))


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="this kernel has no such file")
@pytest.mark.parametrize("new", [[], ["a line of a test\n"]], ids=["nothing new", "a new line"])
def test_a_file_that_waits_for_more_at_its_end_is_not_an_input(world, new):
    with suppress(OSError), Path("/dev/kmsg").open("w") as log:  # only root may write to it
        log.writelines(new)
    with seconds(20):
        world.assert_rejected(Case(BATCH, {"input": "/proc/kmsg"}, ("input", "/proc/kmsg")))


@pytest.mark.parametrize("size", [-1, 10, 100_000])
def test_a_file_without_a_size_is_read_to_its_end_but_not_waited_for(size):
    reading, writing = os.pipe2(os.O_NONBLOCK)
    os.write(writing, b"ten bytes.")
    with BufferedReader(_UnsizedFile(reading, "rows.jsonl")) as file, seconds(20):
        if size == 10:
            assert file.read(size) == b"ten bytes."
        with pytest.raises(InputError, match=r"rows\.jsonl is not a regular file"):
            file.read(size)
        os.write(writing, b"more")
        os.close(writing)
        assert file.read().endswith(b"more")


def test_a_file_of_the_kernel_that_has_an_end_is_read():
    with LocalStore().open("/proc/self/status") as file:
        assert file.read().startswith(b"Name:")


@pytest.mark.parametrize("output", ["/dev/null", "/dev/null/out", "/proc/no-such-folder"])
def test_a_device_is_not_an_output_folder(world, output):
    with seconds(20):
        world.assert_rejected(
            Case(BATCH, {"input": ["a"], "output": output}, ("output", "cannot be written"))
        )


def test_a_part_that_is_a_link_is_replaced_and_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000.jsonl").symlink_to(elsewhere)
    OutputFolder(str(out)).write("part-00000.jsonl", b"rows", durable=False)
    assert elsewhere.read_text() == "kept"
    assert not (out / "part-00000.jsonl").is_symlink()


def test_an_output_folder_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    OutputFolder(str(tmp_path / "link")).write("part-00000.jsonl", b"rows", durable=False)
    assert (tmp_path / "real" / "part-00000.jsonl").read_bytes() == b"rows"


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/x", "a/../../x", "..", ".", "", "a//b", "a\0b", "\\..\\x", "~"]
)
def test_no_file_is_written_outside_the_folder(tmp_path, name):
    """Whatever names a file, such as an id of the platform."""
    out = tmp_path / "out" / "deep"
    before = {path for path in Path(tmp_path).rglob("*") if out not in path.parents}
    with suppress(ValueError, OSError):
        OutputFolder(str(out)).write(name, b"rows", durable=False)
    outside = {path for path in Path(tmp_path).rglob("*") if out not in (path, *path.parents)}
    assert {path for path in outside - before if path.is_file()} == set()
