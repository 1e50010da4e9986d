"""Tests for writing model files: a file is kept only if its checksum and size match."""

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
SHA256 = hashlib.sha256(CONTENT).hexdigest()
EXPECTED = ModelFile("weights.bin", sha256=SHA256, size=len(CONTENT))


def test_content_with_the_expected_checksum_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    write_verified([CONTENT[:10], CONTENT[10:]], target, EXPECTED, SilentProgress())
    assert target.read_bytes() == CONTENT
    assert sha256_of(target) == SHA256


def test_an_uppercase_checksum_matches(tmp_path: Path) -> None:
    expected = ModelFile("weights.bin", sha256=SHA256.upper())
    write_verified([CONTENT], tmp_path / "weights.bin", expected, SilentProgress())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1] + b"!", "sha256"),
        (CONTENT[:-1], f"ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
        (CONTENT + b"!", "longer"),
    ],
)
def test_a_mismatch_raises_and_leaves_no_file(tmp_path: Path, content: bytes, message: str) -> None:
    target = tmp_path / "weights.bin"
    with pytest.raises(ChecksumMismatch, match=message):
        write_verified([content], target, EXPECTED, SilentProgress())
    assert not target.exists()


def test_reading_stops_at_the_expected_size(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield CONTENT

    with pytest.raises(ChecksumMismatch, match="longer"):
        write_verified(endless(), tmp_path / "weights.bin", EXPECTED, SilentProgress())
    assert read == 2


def test_an_interrupted_transfer_leaves_no_file(tmp_path: Path) -> None:
    def interrupted() -> Iterator[bytes]:
        yield CONTENT[:100]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_verified(interrupted(), tmp_path / "weights.bin", EXPECTED, SilentProgress())
    assert list(tmp_path.iterdir()) == []
