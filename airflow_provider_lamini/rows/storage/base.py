"""The file operations that rows need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

GLOB = re.compile(r"[*?\[]")
"""Matches a path that is a pattern."""


class FileInfo(NamedTuple):
    """A file as its store describes it.

    :param path: path in the store
    :param size: size in bytes
    :param version: changes when the file is written again, as far as the store tells; may be empty
    """

    path: str
    size: int
    version: str


class BusyError(Exception):
    """Another process has held a lock for longer than this one may wait."""


class Store(Protocol):
    """A file system. Paths are its own; a missing file is a ``FileNotFoundError``, and any other failure an ``OSError``."""

    remote: bool
    """Whether each operation is a request over a network."""

    def glob(self, pattern: str) -> list[FileInfo]:
        """List the files that match a pattern, sorted by path."""
        ...

    def info(self, path: str) -> FileInfo:
        """Read size and version of a file."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""
        ...

    def obstacle(self, folder: str) -> str | None:
        """Why files cannot be written to a folder, which need not exist; ``None`` if the store shows no reason."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading bytes, seekable."""
        ...

    def read(self, path: str) -> bytes:
        """Read a whole small file."""
        ...

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:
        """Write a file completely or not at all.

        :param path: the file
        :param data: its content, as a whole or in blocks
        :param durable: return only when the content survives a power failure
        """
        ...

    def sync(self, folder: str) -> None:
        """Wait until the names of the files in a folder survive a power failure."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file, if it exists."""
        ...

    def delete_all(self, paths: Sequence[str]) -> None:
        """Remove files, those that exist."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a small file exists."""
        ...

    def names(self, folder: str) -> list[str]:
        """List the names of the files directly in a folder, sorted; empty if there is no such folder."""
        ...

    def clean(self, folder: str, older_than: float) -> None:
        """Remove temporary files of this package that killed processes have left in a folder.

        :param folder: the folder
        :param older_than: minimum age in seconds
        """
        ...

    def prune(self, folder: str) -> None:
        """Remove a folder if it exists and is empty."""
        ...

    def lock(self, path: str, timeout: float) -> AbstractContextManager[bool]:
        """Let only one process at a time run the block; enters with whether the store has locks at all.

        :param path: the lock file
        :param timeout: maximum wait for another process, in seconds
        :raises BusyError: if the other process takes longer
        """
        ...

    def create_exclusive(self, path: str, data: bytes) -> bool | None:
        """Write a file if it does not exist. Of all processes that try, one succeeds.

        :return: whether this process did; ``None`` if the store does not support it
        """
        ...
