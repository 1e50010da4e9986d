"""Files in an object store, through Airflow's file system for it."""

from __future__ import annotations

import io
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from inspect import Parameter, signature
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_lamini.rows.storage.base import FileInfo
from airflow_provider_lamini.rows.storage.local import TemporaryFile
from airflow_provider_lamini.rows.storage.patterns import check_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_BLOCK = 4 * 1024 * 1024
_SPOOL = 8 * 1024 * 1024
_AT_ONCE = 8
_KEPT = 2 * _BLOCK
"""Bytes of small files that are kept in memory while a task works on them."""
_SAME_ANSWER_SECONDS = 1.0
"""How long the size and the version of a file count as known."""
_BUFFER = 256 * 1024
_REFUSED = (401, 403)
"""HTTP statuses of a store that does not permit something."""
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


class StoreClientError(OSError):
    """A store has failed, and its client reports that in a way of its own."""


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise whatever the client of a store raises as an ``OSError``: those of Azure and Google have errors of their own.

    :raises PermissionError: if the store does not permit it
    """
    try:
        yield
    except Exception as error:
        if not _is_of_client(error):
            raise
        status = getattr(error, "status_code", getattr(error, "code", None))
        refused = status in _REFUSED or str(error).startswith("Forbidden")  # as gcsfs writes it
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise (PermissionError if refused else StoreClientError)(text) from error


def _is_of_client(error: Exception) -> bool:
    """Whether an error is not one that Python has: a class of the client, or the ``OSError`` without a number of gcsfs."""
    if isinstance(error, OSError):
        return type(error) is OSError and error.errno is None
    return type(error).__module__ != "builtins" and not isinstance(error, ValueError)


class _StoreFile(io.RawIOBase):
    """A file of a store, with the errors of `_os_errors`.

    :param file: the file of fsspec
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    @_os_errors()
    def readinto(self, buffer: Any) -> int:
        return int(self._file.readinto(buffer))  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class ObjectStore:
    """An object store.

    :param files: the fsspec file system that Airflow has set up
    """

    remote = True

    def __init__(self, files: Any) -> None:
        self._files = files
        self._may_create_exclusively = _takes_mode(files)
        self._known: dict[str, tuple[float, FileInfo]] = {}
        self._contents: dict[str, bytes] = {}
        self._open_arguments = _parameters(files, "open")
        # With more than one connection per file, S3's client asks for the size first.
        self._one_request = (
            {"max_concurrency": 1} if "max_concurrency" in _parameters(files, "cat_file") else {}
        )

    @_os_errors()
    def glob(self, pattern: str) -> list[FileInfo]:
        check_pattern(pattern)
        self._files.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._files.glob(pattern, detail=True)
        return [_info(path, found[path]) for path in sorted(found) if found[path].get("type") == "file"]

    @_os_errors()
    def info(self, path: str) -> FileInfo:
        now = time.monotonic()
        asked_at, known = self._known.get(path, (-math.inf, None))
        if known is None or now - asked_at > _SAME_ANSWER_SECONDS:
            self._files.invalidate_cache()
            before, known = known, _info(path, self._files.info(path))
            self._known[path] = now, known
            if before != known:
                self._contents.pop(path, None)
        return known

    @_os_errors()
    def is_folder(self, path: str) -> bool:
        return bool(self._files.isdir(path))

    def obstacle(self, folder: str) -> str | None:  # noqa: ARG002
        """Not known before the first put."""
        return None

    @_os_errors()
    def open(self, path: str) -> BinaryIO:
        """Open a file; a small one of which `info` was asked is only read once, however often it is opened."""
        _, known = self._known.get(path, (0.0, None))
        if known is None or known.size > _BLOCK:
            size = {} if known is None or "size" not in self._open_arguments else {"size": known.size}
            file = self._files.open(path, "rb", block_size=_BLOCK, **size)
            return io.BufferedReader(_StoreFile(file), _BUFFER)
        content = self._contents.get(path)
        if content is None:
            while sum(map(len, self._contents.values())) > _KEPT:
                self._contents.pop(next(iter(self._contents)))
            content = self._contents[path] = self.read(path)
        return io.BytesIO(content)

    @_os_errors()
    def read(self, path: str) -> bytes:
        return cast("bytes", self._files.cat_file(path, **self._one_request))

    @_os_errors()
    def write(self, path: str, data: bytes | Iterable[bytes], *, durable: bool) -> None:  # noqa: ARG002
        """Write a file with one put, which is visible as a whole or not at all, and durable when it is answered."""
        if isinstance(data, bytes):
            self._files.pipe_file(path, data)
            return
        # If a later block failed, an upload in blocks would leave a part of the file: collect all blocks first.
        blocks: list[bytes] = []
        size, remaining = 0, iter(data)
        for block in remaining:
            blocks.append(block)
            size += len(block)
            if size > _SPOOL:
                break
        else:
            self._files.pipe_file(path, b"".join(blocks))
            return
        with TemporaryFile() as file:
            for block in chain(blocks, remaining):
                file.write(block)
            self._files.put_file(str(file.path()), path)

    def sync(self, folder: str) -> None:
        """Nothing to wait for: a put is durable when it is answered."""

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError), _os_errors():
            self._files.rm_file(path)

    @_os_errors()
    def delete_all(self, paths: Sequence[str]) -> None:
        """Remove files: with one request for a thousand of them, or with several requests at the same time."""
        if len(paths) > 1 and hasattr(self._files, "_bulk_delete"):
            self._files.rm(list(paths))
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.delete, paths))

    def exists(self, path: str) -> bool:
        """Whether a small file exists. Reading it is one request; asking for a missing one is a HEAD and a list."""
        try:
            self.read(path)
        except FileNotFoundError:
            return False
        return True

    @_os_errors()
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
        if not self._may_create_exclusively:
            return None
        try:
            with _os_errors():
                self._files.pipe_file(path, data, mode="create")
        except TypeError:  # the client of the store does not know the argument
            return None
        except OSError:
            # Stores report an existing object in different ways. It may even come from this put, if it was retried.
            try:
                return self.read(path) == data
            except FileNotFoundError:
                pass
            raise
        return True


def _takes_mode(files: Any) -> bool:
    """Whether a file system may be able to put an object on the condition that it does not exist; a trial must show it."""
    from fsspec import AbstractFileSystem

    # The default of fsspec checks first and writes afterwards, which is not exclusive.
    if _method(files, "pipe_file") is AbstractFileSystem.pipe_file:
        return False
    parameters = _parameters(files, "pipe_file")
    return "mode" in parameters or any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values())


def _method(files: Any, name: str) -> Callable[..., Any]:
    """A method of a file system, or what it wraps."""
    found: Callable[..., Any] = getattr(type(files), f"_{name}", None) or getattr(type(files), name)
    return found


def _parameters(files: Any, name: str) -> Mapping[str, Parameter]:
    return signature(_method(files, name)).parameters


def _info(path: str, info: dict[str, Any]) -> FileInfo:
    version = "|".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
    return FileInfo(path, int(info.get("size") or 0), version)
