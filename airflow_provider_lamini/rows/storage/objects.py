"""Files in an object store, by the file system that Airflow has for it."""

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
# What stores call the things that change when an object is written anew.
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
    """Objects behind an fsspec file system that Airflow has set up.

    :param files: the fsspec file system
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self._claims = _creates_alone(files)

    def glob(self, pattern: str) -> list[FileInfo]:
        """See `Store.glob`."""
        self._files.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._files.glob(pattern, detail=True)
        return [_info(path, found[path]) for path in sorted(found) if found[path].get("type") == "file"]

    def info(self, path: str) -> FileInfo:
        """See `Store.info`."""
        self._files.invalidate_cache()
        return _info(path, self._files.info(path))

    def is_folder(self, path: str) -> bool:
        """See `Store.is_folder`."""
        return bool(self._files.isdir(path))

    def obstacle(self, folder: str) -> str | None:  # noqa: ARG002
        """See `Store.obstacle`: object stores tell at the first put only."""
        return None

    def open(self, path: str) -> BinaryIO:
        """See `Store.open`."""
        return cast("BinaryIO", self._files.open(path, "rb", block_size=_BLOCK))

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        return cast("bytes", self._files.cat_file(path))

    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:  # noqa: ARG002
        """See `Store.write`: one put, which object stores show whole or not at all.

        :param durable: makes no difference, a put that is answered is durable
        """
        if isinstance(data, bytes):
            self._files.pipe_file(path, data)
            return
        # An upload that is fed piece by piece would show what it has when a later piece fails: collect first.
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
        """See `Store.sync`: a put that is answered is safe."""

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        self._files.invalidate_cache()
        try:
            entries: list[dict[str, Any]] = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return sorted(str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def clean(self, folder: str, older_than: float) -> None:
        """See `Store.clean`: a put leaves no temporary files."""

    def prune(self, folder: str) -> None:
        """See `Store.prune`: object stores have no folders."""

    @contextmanager
    def locked(self, path: str, patience: float) -> Iterator[bool]:  # noqa: ARG002
        """See `Store.locked`: object stores have none."""
        yield False

    def create_exclusive(self, path: str, data: bytes) -> bool | None:
        """See `Store.create_exclusive`: a put on the condition that there is no such object."""
        if not self._claims:
            return None
        try:
            self._files.pipe_file(path, data, mode="create")
        except OSError:
            # Stores say in different words that it is there. It may even be what this put, repeated, has written.
            try:
                return self.read(path) == data
            except FileNotFoundError:
                pass
            raise
        return True

    def seal(self, info: FileInfo, since: float) -> str | None:  # noqa: ARG002
        """See `Store.seal`: it would take a request."""
        return None


def _creates_alone(files: Any) -> bool:
    """Whether a file system can put an object on the condition that it is not there yet."""
    from fsspec import AbstractFileSystem

    put = getattr(type(files), "_pipe_file", None) or type(files).pipe_file
    # fsspec's own looks first and writes then, which proves nothing.
    return put is not AbstractFileSystem.pipe_file and "mode" in signature(put).parameters


def _info(path: str, info: dict[str, Any]) -> FileInfo:
    version = "|".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
    return FileInfo(path, int(info.get("size") or 0), version)
