"""Where files lie: a local disk, or a store that Airflow has a file system for.

Both have the same few operations. Local paths never touch Airflow, so a notebook can read results without it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.storage.base import FileInfo
from airflow_provider_lamini.rows.storage.locks import hold, is_held, locked
from airflow_provider_lamini.rows.storage.uris import brief

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

_TEMPORARY = re.compile(r"\.[A-Za-z0-9._-]+\.[0-9a-f]{32}\.lamini-tmp")
_TICK = 2.0
"""Seconds between two times that file systems tell apart, at the most."""


class LocalStore:
    """Files on this machine, or on a file system that it has mounted."""

    def glob(self, pattern: str) -> list[FileInfo]:
        """See `Store.glob`. Hidden files do not match."""
        anchor = Path(Path(pattern).anchor)
        try:
            found = sorted(anchor.glob(str(Path(pattern).relative_to(anchor))))
        except ValueError as error:  # Python before 3.13 takes "**" as a whole folder's name only
            raise InputError(f"{brief(pattern)} is no pattern for files: {error}.") from None
        return [self.info(str(path)) for path in found if path.is_file() and not path.name.startswith(".")]

    def info(self, path: str) -> FileInfo:
        """See `Store.info`."""
        try:
            status = Path(path).stat()
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise InputError(f"{brief(path)} is a symbolic link that leads to itself.") from None
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device: to open it may wait forever, and to read it may never end.
            raise InputError(f"{brief(path)} is no regular file.")
        return FileInfo(path, status.st_size, str(status.st_mtime_ns))

    def is_folder(self, path: str) -> bool:
        """See `Store.is_folder`."""
        try:
            return Path(path).is_dir()
        except PermissionError:
            return False

    def obstacle(self, folder: str) -> str | None:
        """See `Store.obstacle`: the folder that is there, or the one it would be made in."""
        place = Path(folder)
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            return f"{brief(str(place))} is no folder"
        return None if os.access(place, os.W_OK | os.X_OK) else f"{brief(str(place))} may not be written to"

    def open(self, path: str) -> BinaryIO:
        """See `Store.open`."""
        return Path(path).open("rb")

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:
        """See `Store.write`: a temporary file in the same folder, then a rename.

        :param durable: rename only when the disk has the content, so that not even a loss of power tears the file
        """
        target = Path(path)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.lamini-tmp"
        try:
            with _create(temporary) as file:
                hold(file)
                file.writelines((data,) if isinstance(data, bytes) else data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def sync(self, folder: str) -> None:
        """See `Store.sync`."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        Path(path).unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        try:
            return sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def clean(self, folder: str, older_than: float) -> None:
        """See `Store.clean`."""
        # The folder may be other people's: what cannot be listed or removed stays.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            ours = [path for path in Path(folder).iterdir() if _TEMPORARY.fullmatch(path.name)]
            limit = _clock(folder) - older_than if ours else 0.0
            for path in ours:
                # The age alone is not enough: a clock that is set forward makes every file old.
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime <= limit and not is_held(path):
                        path.unlink()

    def prune(self, folder: str) -> None:
        """See `Store.prune`."""
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    def locked(self, path: str, patience: float) -> AbstractContextManager[bool]:
        """See `Store.locked`."""
        return locked(path, patience)

    def create_exclusive(self, path: str, data: bytes) -> bool | None:  # noqa: ARG002
        """See `Store.create_exclusive`: there are locks, which are better."""
        return None

    def seal(self, info: FileInfo, since: float) -> str | None:
        """See `Store.seal`. A file that was written shortly before may have been written again at the same tick."""
        try:
            status = Path(info.path).stat()
        except OSError:
            return None
        found = (status.st_size, str(status.st_mtime_ns))
        if found != (info.size, info.version) or status.st_mtime > since - _TICK:
            return None
        return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"


def _clock(folder: str) -> float:
    """The time by the clock that stamps the files in a folder: a network file system has its own."""
    probe = Path(folder) / f".clock.{uuid.uuid4().hex}.lamini-tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
