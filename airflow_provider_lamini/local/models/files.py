"""Checksummed copies of model files, and the errors that the model store raises."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import PullProgress

BLOCK = 1 << 20


class ModelError(Exception):
    """Base class of all model store errors. The message is meant for the user and says what to do next."""


class ModelMissing(ModelError):  # noqa: N818 - says what happened
    """A model is not in the cache, or its files are damaged. Pull it to fix this."""


class UnknownModel(ModelError):  # noqa: N818 - says what happened
    """The catalogue has no model of this name, and no source was given."""


class PullFailed(ModelError):  # noqa: N818 - says what happened
    """A model could not be fetched. The cache is unchanged; another pull may succeed."""


class ChecksumMismatch(PullFailed):
    """A fetched file is not the pinned one: it was corrupted in transit or is another version."""


class UnreadableModel(ModelError):  # noqa: N818 - says what happened
    """A model file is not in the expected format."""


def read_blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a stream in blocks of 1 MiB."""
    while block := stream.read(BLOCK):
        yield block


def write_verified(
    blocks: Iterable[bytes], target: Path, expected: ModelFile, progress: PullProgress
) -> None:
    """Write a new file and verify its size and checksum.

    :param blocks: the content
    :param target: the file to write; it is deleted if the verification fails
    :param expected: the expected checksum and size; either may be unset
    :param progress: called with the number of bytes written so far
    :raises ChecksumMismatch: the checksum or the size differs
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with target.open("wb") as file:
            for block in blocks:
                size += len(block)
                if expected.size is not None and size > expected.size:
                    break
                digest.update(block)
                file.write(block)
                progress.update(size)
        _verify(expected, size, digest.hexdigest())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _verify(expected: ModelFile, size: int, sha256: str) -> None:
    if expected.size is not None and size > expected.size:
        raise ChecksumMismatch(
            f"{expected.name} is longer than the expected {expected.size} bytes, so it is a different file. "
            "It was discarded."
        )
    if expected.size is not None and size < expected.size:
        raise ChecksumMismatch(
            f"{expected.name} ended after {size} of {expected.size} bytes: the transfer was interrupted, or "
            "it is a different file. It was discarded; pull again."
        )
    if expected.sha256 is not None and sha256 != expected.sha256.lower():
        raise ChecksumMismatch(
            f"{expected.name} has sha256 {sha256}, expected {expected.sha256}: it was corrupted in transit or "
            "is another version. It was discarded."
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
