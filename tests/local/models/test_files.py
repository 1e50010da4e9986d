"""Bytes become a file only if they are the ones that are wanted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.models.catalogue import ModelFile
from airflow_provider_lamini.local.models.files import ChecksumMismatch, sha256_of, write_verified
from airflow_provider_lamini.local.models.progress import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = b"weights" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()
WANTED = ModelFile("weights.bin", sha256=SUM, size=len(CONTENT))


def test_the_wanted_bytes_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    write_verified([CONTENT[:10], CONTENT[10:]], target, WANTED, SilentProgress())
    assert target.read_bytes() == CONTENT
    assert sha256_of(target) == SUM


def test_a_checksum_in_capitals_is_the_same(tmp_path: Path) -> None:
    wanted = ModelFile("weights.bin", sha256=SUM.upper())
    write_verified([CONTENT], tmp_path / "weights.bin", wanted, SilentProgress())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENT[:-1] + b"!", "sha256"),
        (CONTENT[:-1], f"ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
        (CONTENT + b"!", "longer"),
    ],
)
def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    target = tmp_path / "weights.bin"
    with pytest.raises(ChecksumMismatch, match=said):
        write_verified([content], target, WANTED, SilentProgress())
    assert not target.exists()


def test_an_endless_answer_stops_at_the_pinned_size(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield CONTENT

    with pytest.raises(ChecksumMismatch, match="longer"):
        write_verified(endless(), tmp_path / "weights.bin", WANTED, SilentProgress())
    assert read == 2


def test_a_transfer_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT[:100]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_verified(breaking(), tmp_path / "weights.bin", WANTED, SilentProgress())
    assert list(tmp_path.iterdir()) == []
