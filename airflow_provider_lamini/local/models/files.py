"""Copying bytes into a file, with the checksum taken on the way."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

from airflow_provider_lamini.local.models.errors import ChecksumMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import Progress

BLOCK = 1 << 20


def blocks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a stream in blocks of 1 MiB."""
    while block := stream.read(BLOCK):
        yield block


def write_checked(blocks: Iterable[bytes], target: Path, wanted: ModelFile, progress: Progress) -> None:
    """Write blocks to a new file and hold it against what is wanted.

    :param blocks: the content
    :param target: the file to write; it is removed again where it is not what is wanted
    :param wanted: checksum and size, each where pinned
    :param progress: gets the bytes written
    :raises ChecksumMismatch: the content is another, or longer or shorter than pinned
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with target.open("wb") as file:
            for block in blocks:
                size += len(block)
                if wanted.size is not None and size > wanted.size:
                    break
                digest.update(block)
                file.write(block)
                progress.update(size)
        _hold_against(wanted, size, digest.hexdigest())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _hold_against(wanted: ModelFile, size: int, sha256: str) -> None:
    if wanted.size is not None and size > wanted.size:
        raise ChecksumMismatch(
            f"{wanted.name} is longer than the {wanted.size} bytes that are expected: it is another file. "
            "Nothing was kept."
        )
    if wanted.size is not None and size < wanted.size:
        raise ChecksumMismatch(
            f"{wanted.name} ended after {size} of {wanted.size} bytes: the transfer broke off, or it is "
            "another file. Nothing was kept; pull again."
        )
    if wanted.sha256 is not None and sha256 != wanted.sha256.lower():
        raise ChecksumMismatch(
            f"{wanted.name} has sha256 {sha256}, expected {wanted.sha256}: it was damaged on the way or is "
            "another version. Nothing was kept."
        )


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
