"""Locks on a local disk: of all processes, one at a time is in a place, or holds a file. They end with their process."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.25


class BusyError(Exception):
    """Another process has stayed inside for longer than was waited."""


@contextmanager
def locked(path: str, patience: float) -> Iterator[bool]:
    """Be the only process inside. The lock file is there only as long as somebody is; its folder is made where needed.

    :param path: the lock file, in the place that it is about
    :param patience: seconds to wait for another process at the most
    :return: whether there is a lock; a file system that has none lets everybody in
    :raises BusyError: where the other process stays longer
    """
    file = Path(path)
    made = [each for each in (file.parent, *file.parent.parents) if not each.exists()]
    handle = _take(file, patience)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            file.unlink(missing_ok=True)  # before it is let go: nobody else is inside
            os.close(handle)
        with suppress(OSError):  # something lies in them now
            for folder in made:
                folder.rmdir()


def hold(file: BinaryIO) -> None:
    """Show other processes that a file is being written, until it is closed; where there are no locks, nothing shows.

    :param file: the open file
    """
    from fcntl import LOCK_EX, LOCK_NB, flock

    with suppress(OSError):
        flock(file.fileno(), LOCK_EX | LOCK_NB)


def is_held(file: Path) -> bool:
    """Whether a process holds a file; where there are no locks, none seems to.

    :param file: the file
    :raises FileNotFoundError: where it is gone
    """
    from fcntl import LOCK_EX, LOCK_NB, flock

    with file.open("rb") as handle:
        try:
            flock(handle.fileno(), LOCK_EX | LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return False


def _take(file: Path, patience: float) -> int | None:
    from fcntl import LOCK_EX, LOCK_NB, flock

    until, pause = time.monotonic() + patience, _FIRST_PAUSE
    while True:
        handle = _open(file)
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
            if _is_there(file, handle):
                return handle
            os.close(handle)  # the one before has removed the file as it left
            continue
        if time.monotonic() >= until:
            raise BusyError(str(file))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _open(file: Path) -> int:
    while True:
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)


def _is_there(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
