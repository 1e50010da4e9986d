"""Temporary files of which nothing is left, however their process ends."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO, cast

_OPEN_FILES = Path("/proc/self/fd")


def temporary_file() -> BinaryIO:
    """Create a temporary file for writing and reading; close it to remove it.

    It has no name, so a killed process leaves nothing on the disk. Where the system cannot open such a file by a path, it
    has a name until it is closed.
    """
    if _OPEN_FILES.is_dir():
        return cast("BinaryIO", tempfile.TemporaryFile())
    return cast("BinaryIO", tempfile.NamedTemporaryFile())


def path_of(file: BinaryIO) -> Path:
    """A path under which this process can open a temporary file again while it is open.

    :param file: made by `temporary_file`; flush it first
    """
    return Path(file.name) if isinstance(file.name, str) else _OPEN_FILES / str(file.fileno())
