"""Files in an object store, through Airflow's file system for it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_lamini.rows.storage.base import FileInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BLOCK = 4 * 1024 * 1024
_SPOOL = 8 * 1024 * 1024
# Names that stores use for values that change when an object is written again.
_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "version_id",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


class ObjectStore:
    """An object store.

    :param files: the fsspec file system that Airflow has set up
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self._has_exclusive_create = _supports_exclusive_create(files)

    def glob(self, pattern: str) -> list[FileInfo]:
        self._files.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._files.glob(pattern, detail=True)
        return [_info(path, found[path]) for path in sorted(found) if found[path].get("type") == "file"]

    def info(self, path: str) -> FileInfo:
        self._files.invalidate_cache()
        return _info(path, self._files.info(path))

    def is_folder(self, path: str) -> bool:
        return bool(self._files.isdir(path))

    def obstacle(self, folder: str) -> str | None:  # noqa: ARG002
        """Not known before the first put."""
        return None

    def open(self, path: str) -> BinaryIO:
        return cast("BinaryIO", self._files.open(path, "rb", block_size=_BLOCK))

    def read(self, path: str) -> bytes:
        return cast("bytes", self._files.cat_file(path))

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:  # noqa: ARG002
        """Write a file with one put, which is visible as a whole or not at all, and durable when it is answered."""
        if isinstance(data, bytes):
            self._files.pipe_file(path, data)
            return
        # If a later block failed, an upload in blocks would leave a part of the file: collect all blocks first.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spool:
            spool.writelines(data)
            size = spool.tell()
            spool.seek(0)
            if size <= _SPOOL:
                self._files.pipe_file(path, spool.read())
                return
            with tempfile.NamedTemporaryFile() as file:
                while block := spool.read(_BLOCK):
                    file.write(block)
                file.flush()
                self._files.put_file(file.name, path)

    def sync(self, folder: str) -> None:
        """Nothing to wait for: a put is durable when it is answered."""

    def delete(self, path: str) -> None:
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return

    def names(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            entries: list[dict[str, Any]] = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return sorted(str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def clean(self, folder: str, older_than: float) -> None:
        """Nothing to remove: a put leaves no temporary files."""

    def prune(self, folder: str) -> None:
        """Nothing to remove: object stores have no folders."""

    @contextmanager
    def lock(self, path: str, timeout: float) -> Iterator[bool]:  # noqa: ARG002
        """Object stores have no locks: every process may run the block."""
        yield False

    def create_exclusive(self, path: str, data: bytes) -> bool | None:
        """Put an object on the condition that it does not exist."""
        if not self._has_exclusive_create:
            return None
        try:
            self._files.pipe_file(path, data, mode="create")
        except OSError:
            # Stores report an existing object in different ways. It may even come from this put, if it was retried.
            try:
                return self.read(path) == data
            except FileNotFoundError:
                pass
            raise
        return True


def _supports_exclusive_create(files: Any) -> bool:
    """Whether a file system can put an object on the condition that it does not exist."""
    from fsspec import AbstractFileSystem

    put = getattr(type(files), "_pipe_file", None) or type(files).pipe_file
    # The default of fsspec checks first and writes afterwards, which is not exclusive.
    return put is not AbstractFileSystem.pipe_file and "mode" in signature(put).parameters


def _info(path: str, info: dict[str, Any]) -> FileInfo:
    version = "|".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
    return FileInfo(path, int(info.get("size") or 0), version)
