"""Files on this machine, temporary ones among them, or on a file system that it has mounted. Nothing here imports Airflow."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_lamini.rows.errors import InputError, TemporaryDiskError
from airflow_provider_lamini.rows.formats import PACKAGE
from airflow_provider_lamini.rows.storage.base import BusyError, FileInfo
from airflow_provider_lamini.rows.storage.patterns import check_pattern
from airflow_provider_lamini.rows.storage.uris import short_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from _typeshed import WriteableBuffer

_TEMPORARY_SUFFIX = f".{PACKAGE}-tmp"
_TEMPORARY = re.compile(rf"\.[A-Za-z0-9._-]+\.[0-9a-f]{{16}}{re.escape(_TEMPORARY_SUFFIX)}")
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk, or of a used up quota."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_FIRST_LOCK_PAUSE = 0.001
_MAX_LOCK_PAUSE = 0.25


class LocalStore:
    """A local file system."""

    remote = False

    def glob(self, pattern: str) -> list[FileInfo]:
        """List the files that match a pattern, also those whose names begin with a dot."""
        check_pattern(pattern)
        anchor = Path(Path(pattern).anchor)
        relative = Path(pattern).relative_to(anchor)
        if relative.name == "**":  # before Python 3.13, this finds only folders
            relative /= "*"
        found = sorted(anchor.glob(str(relative)))
        return [self.info(str(path)) for path in found if path.is_file()]

    def info(self, path: str) -> FileInfo:
        """Read size and version of a file.

        :raises InputError: for a pipe or device, which could block forever, and for a symbolic link loop
        """
        try:
            status = Path(path).stat()
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise InputError(f"{short_uri(path)} is a symbolic link to itself.") from None
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{short_uri(path)} is not a regular file.")
        return FileInfo(path, status.st_size, str(status.st_mtime_ns))

    def is_folder(self, path: str) -> bool:
        try:
            return Path(path).is_dir()
        except PermissionError:
            return False

    def obstacle(self, folder: str) -> str | None:
        """Check the folder, or the existing folder that it would be created in."""
        existing = Path(folder)
        while not os.path.lexists(existing):
            existing = existing.parent
        if not existing.is_dir():
            return f"{short_uri(str(existing))} is not a folder"
        if os.access(existing, os.W_OK | os.X_OK):
            return None
        return f"there is no permission to write to {short_uri(str(existing))}"

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading.

        :raises InputError: for anything but a regular file: a pipe would block for ever, a device may have no end
        """
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise _not_regular(path)
        if status.st_size:
            return os.fdopen(handle, "rb")
        return io.BufferedReader(_UnsizedFile(handle, path))

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            return file.read()

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:
        """Write a temporary file in the same folder, then rename it.

        :param path: path of the file
        :param data: its content, or blocks of it
        :param durable: rename it only when its content is on the disk
        """
        # Plain texts here: with pathlib, the names of a small file cost as much as the file.
        folder, name = os.path.split(path)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:16]}{_TEMPORARY_SUFFIX}"
        try:
            with _create(temporary) as file:
                file.writelines((data,) if isinstance(data, bytes) else data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                os.replace(temporary, path)
        except BaseException:
            self.delete(temporary)
            raise

    def sync(self, folder: str) -> None:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)

    def delete_all(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.delete(path)

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def clean(self, folder: str, older_than: float) -> None:
        limit = time.time() - older_than
        # The folder may belong to somebody else: what cannot be listed or removed stays.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for path in Path(folder).iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    with suppress(FileNotFoundError):
                        if path.stat().st_mtime <= limit:
                            path.unlink()

    def prune(self, folder: str) -> None:
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    @contextmanager
    def lock(self, path: str, timeout: float) -> Iterator[bool]:
        """Hold a lock while the block runs. The lock file exists only meanwhile; its folder is created if needed.

        :return: whether there is a lock: a file system without locks admits every process
        """
        created = _missing_folders(os.path.dirname(path))
        handle = _acquire_lock(path, timeout)
        try:
            yield handle is not None
        finally:
            if handle is not None:
                self.delete(path)  # while the lock is still held, so that it is this process's own file
                os.close(handle)
            with suppress(OSError):  # they are not empty any more
                for folder in created:
                    folder.rmdir()

    def create_exclusive(self, path: str, data: bytes) -> bool | None:  # noqa: ARG002
        """Not supported: locks serve the same purpose."""
        return None


def _create(path: str) -> BinaryIO:
    try:
        return open(path, "wb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb")


def _missing_folders(path: str) -> list[Path]:
    """A folder and those above it that do not exist, the innermost first."""
    if os.path.isdir(path):
        return []
    return [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]


def _acquire_lock(path: str, timeout: float) -> int | None:
    """Open the lock file and lock it; ``None`` if the file system has no locks. A lock ends with its process."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    deadline, pause = time.monotonic() + timeout, _FIRST_LOCK_PAUSE
    while True:
        handle = _open_lock_file(path)
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                return None
            raise
        else:
            if _is_same_file(path, handle):
                return handle
            os.close(handle)  # the previous owner has removed the file on its way out
            continue
        if time.monotonic() >= deadline:
            raise BusyError(path)
        time.sleep(pause)
        pause = min(2 * pause, _MAX_LOCK_PAUSE)


def _open_lock_file(path: str) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)


def _is_same_file(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _not_regular(path: str) -> InputError:
    return InputError(f"{short_uri(path)} is not a regular file.")


class _UnsizedFile(io.FileIO):
    """An open file that calls itself regular and empty.

    Some files of the kernel (``/proc/kmsg``) do, and wait for more at their end, with or without content before it.

    :param handle: its descriptor, which does not block
    :param path: its path
    """

    # These two call `readinto`; those of `FileIO` do not.
    read = io.RawIOBase.read  # type: ignore[assignment]  # it is not called with None
    readall = io.RawIOBase.readall

    def __init__(self, handle: int, path: str) -> None:
        super().__init__(handle)
        self._path = path

    def readinto(self, buffer: WriteableBuffer) -> int:
        count: int | None = super().readinto(buffer)
        if count is None:
            raise _not_regular(self._path)
        return count


_OPEN_FILES = Path("/proc/self/fd")


class TemporaryFile:
    """A temporary file for writing, and for reading by its path; close it to remove it.

    It has no name, so a killed process leaves nothing on the disk. Where the system cannot open such a file by a path, it
    has a name until it is closed.

    :raises TemporaryDiskError: if it cannot be created; also where it is written and closed
    """

    def __init__(self) -> None:
        with _named_errors():
            self._file = (
                tempfile.TemporaryFile() if _OPEN_FILES.is_dir() else tempfile.NamedTemporaryFile()  # noqa: SIM115
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Write at the end."""
        with _named_errors():
            self._file.write(data)

    def path(self) -> Path:
        """A path under which this process can read what was written, while the file is open."""
        with _named_errors():
            self._file.flush()
        return (
            Path(self._file.name)
            if isinstance(self._file.name, str)
            else _OPEN_FILES / str(self._file.fileno())
        )

    def size(self) -> int:
        """Number of bytes that were written."""
        return self._file.tell()

    def close(self) -> None:
        """Remove the file."""
        with _named_errors():
            self._file.close()


@contextmanager
def _named_errors() -> Iterator[None]:
    """Say where temporary files are, which the error of a disk does not.

    :raises TemporaryDiskError: instead of an ``OSError``
    """
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        reason = "is full. Free space" if full else f"cannot be used ({error.strerror}). Correct that"
        raise TemporaryDiskError(
            f"The worker's disk for temporary files ({tempfile.tempdir or 'TMPDIR'}) {reason}, or set TMPDIR on the worker to a "
            "folder on another disk."
        ) from error
