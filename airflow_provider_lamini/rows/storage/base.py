"""What rows need of a file system."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

GLOB = re.compile(r"[*?\[]")


class FileInfo(NamedTuple):
    """A file as its store sees it.

    :param path: path in the store
    :param size: bytes
    :param version: changes when the file is written anew, as far as the store tells; may be empty
    """

    path: str
    size: int
    version: str


class Store(Protocol):
    """What rows need of a file system. Paths are its own; a missing file is a ``FileNotFoundError``."""

    def glob(self, pattern: str) -> list[FileInfo]:
        """The files that match, sorted by path."""
        ...

    def info(self, path: str) -> FileInfo:
        """Size and version of one file."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""
        ...

    def obstacle(self, folder: str) -> str | None:
        """Why nothing can be written into a folder, which need not exist; ``None`` where the store shows no reason."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading bytes, seekable."""
        ...

    def read(self, path: str) -> bytes:
        """The whole of a small file."""
        ...

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:
        """Write a file whole or not at all."""
        ...

    def sync(self, folder: str) -> None:
        """Wait until the names of the files in a folder are safe from a loss of power."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted; none where there is no folder."""
        ...

    def clean(self, folder: str, older_than: float) -> None:
        """Remove our own temporary files that were left in a folder, older than so many seconds and held by nobody."""
        ...

    def prune(self, folder: str) -> None:
        """Remove a folder that has nothing in it; nothing happens to others."""
        ...

    def locked(self, path: str, patience: float) -> AbstractContextManager[bool]:
        """Be the only process inside, as long as the block lasts; gives whether there are locks at all.

        :param path: the lock file
        :param patience: seconds to wait for another process at the most
        """
        ...

    def create_exclusive(self, path: str, data: bytes) -> bool | None:
        """Write a file that is not there yet; of all processes that try, one succeeds.

        :return: whether it was this one; ``None`` where the store cannot tell
        """
        ...

    def seal(self, info: FileInfo, since: float) -> str | None:
        """What stays the same for as long as nobody writes to a file.

        :param info: the file, as it was found
        :param since: when that was, in seconds since 1970
        :return: ``None`` where it may have been written to since then, or the store cannot tell at no cost
        """
        ...
