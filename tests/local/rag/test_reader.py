"""Documents that are made to take too much time or memory cost a job, never the platform."""

from __future__ import annotations

import os
import signal
import threading
import time
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest

from airflow_provider_lamini.local.rag.documents import UnreadableDocumentError
from airflow_provider_lamini.local.rag.reader import DocumentReader
from tests.support.pdf import pdf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
READER = "airflow_provider_lamini.local.rag.reader_process"


class StoppedError(Exception):
    """The job must end."""


@pytest.fixture(scope="module")
def reader() -> Iterator[DocumentReader]:
    with DocumentReader(cpu_seconds=5, memory=400 * MIB) as opened:
        yield opened


def document(folder: Path, content: bytes | str) -> Path:
    path = folder / "000000"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pdf_of_stream(stream: bytes, filters: str = "/FlateDecode") -> bytes:
    """A PDF with one page, whose content is compressed."""
    plain = pdf("x")
    start = plain.index(b"<< /Length")
    end = plain.index(b"endobj", start)
    body = b"<< /Length %d /Filter %s >>\nstream\n%s\nendstream\n" % (len(stream), filters.encode(), stream)
    return plain[:start] + body + plain[end:]


def test_one_process_reads_several_documents(reader: DocumentReader, tmp_path: Path) -> None:
    for text in ("First.", "Second."):
        assert reader.read(document(tmp_path, text), "a.txt", lambda: None) == [text]
    assert reader.read(document(tmp_path, pdf("Third.")), "a.pdf", lambda: None) == ["Third."]


def test_many_passages_arrive_in_order(reader: DocumentReader, tmp_path: Path) -> None:
    text = "\n\n".join(f"Sentence number {number}. " + "word " * 150 for number in range(1200))
    passages = reader.read(document(tmp_path, text), "a.txt", lambda: None)
    assert len(passages) == 1200
    assert all(f"number {number}." in passage for number, passage in enumerate(passages))


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html"])
def test_comments_before_the_text_do_not_matter(reader: DocumentReader, tmp_path: Path, name: str) -> None:
    path = document(tmp_path, "<!-- a -->\n" * 40 + "The text.")
    assert "The text." in reader.read(path, name, lambda: None)[-1]


@pytest.mark.faults
def test_a_document_that_takes_too_much_memory_is_unreadable(reader: DocumentReader, tmp_path: Path) -> None:
    path = document(tmp_path, "a\n\n" * (20 * MIB))
    with pytest.raises(UnreadableDocumentError, match="GiB of memory"):
        reader.read(path, "a.txt", lambda: None)
    assert reader.read(document(tmp_path, "Next."), "a.txt", lambda: None) == ["Next."]


@pytest.mark.faults
def test_a_pdf_bomb_is_unreadable_within_the_limits(reader: DocumentReader, tmp_path: Path) -> None:
    bomb = zlib.compress(zlib.compress(b"(a) Tj " * (300 * MIB // 7), 9), 9)
    path = document(tmp_path, pdf_of_stream(bomb, "[/FlateDecode /FlateDecode]"))
    assert path.stat().st_size < 100_000
    with pytest.raises(UnreadableDocumentError):
        reader.read(path, "a.pdf", lambda: None)


@pytest.mark.faults
def test_a_document_that_takes_too_much_cpu_time_is_unreadable(tmp_path: Path) -> None:
    path = document(tmp_path, pdf_of_stream(zlib.compress(b"BT (a) Tj ET\n" * 2_000_000)))
    with (
        DocumentReader(cpu_seconds=1) as impatient,
        pytest.raises(UnreadableDocumentError, match="more than 1 s of CPU time"),
    ):
        impatient.read(path, "a.pdf", lambda: None)


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00" + zlib.compress(bytes(MIB)), b"PK\x03\x04" + bytes(100)],
    ids=["gzip", "zip"],
)
def test_archives_are_not_opened(reader: DocumentReader, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableDocumentError, match="not text"):
        reader.read(document(tmp_path, content), "a.txt", lambda: None)


def test_reading_stops_when_the_job_must_end(tmp_path: Path) -> None:
    path = document(tmp_path, "* a\n > b\n" * 100_000)
    began = time.monotonic()

    def stop() -> None:
        if time.monotonic() > began + 0.3:
            raise StoppedError

    with DocumentReader() as patient:
        with pytest.raises(StoppedError):
            patient.read(path, "a.md", stop)
        assert time.monotonic() - began < 5
        assert patient.read(document(tmp_path, "Next."), "a.txt", lambda: None) == ["Next."]


def test_a_killed_process_makes_its_document_unreadable(tmp_path: Path) -> None:
    path = document(tmp_path, "* a\n > b\n" * 100_000)
    killed = threading.Event()

    def kill() -> None:
        readers = [child for child in psutil.Process().children() if READER in " ".join(child.cmdline())]
        if readers and not killed.is_set():
            os.kill(readers[-1].pid, signal.SIGKILL)
            killed.set()

    with DocumentReader() as patient:
        with pytest.raises(UnreadableDocumentError, match="status -9"):
            patient.read(path, "a.md", kill)
        assert patient.read(document(tmp_path, "Next."), "a.txt", lambda: None) == ["Next."]
