"""The output folder of a run. Each file in it is complete or does not exist."""

from __future__ import annotations

import errno
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from airflow_provider_lamini.rows.errors import (
    FolderBusyError,
    InputError,
    OutputError,
    OutputRefusedError,
    StoreRefusedError,
)
from airflow_provider_lamini.rows.storage.base import BusyError
from airflow_provider_lamini.rows.storage.local import FULL, LocalStore
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import SCHEME, redacted_uri, without_password
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

T = TypeVar("T")

WORK = "_work"
"""Subfolder of the output folder for files that only a running run needs."""

_NAME = re.compile(rf"(?:{WORK}/)?[A-Za-z0-9_][A-Za-z0-9._-]{{0,199}}")
_STALE_SECONDS = 3600.0
_LOCK_TIMEOUT = 600.0
_WHAT_TO_DO = "Pass a folder that Airflow's workers can write to."
_PROBE = "_probe"
_AT_ONCE = 8


class OutputFolder:
    """A folder on a local disk or on an object store.

    :param uri: path or URI of the folder; it need not exist
    :param conn_id: the Airflow connection to the object store
    :raises OutputError: if it is not a path or URI, or this Airflow has no file system for its scheme
    """

    def __init__(self, uri: str, conn_id: str | None = None) -> None:
        if not isinstance(uri, str):
            raise OutputError(f"The output folder is {kind(uri)}. Pass a path or a URI.")
        if not uri.strip() or "\n" in uri or "\0" in uri:
            raise OutputError("The output folder is empty or not a path. Pass a path or a URI.")
        if SCHEME.match(uri) and ".." in uri.split("/"):
            raise OutputError(f"The output folder {redacted_uri(uri)} contains '..'. Pass a path without it.")
        try:
            self._store, path = locate(uri, conn_id)
        except InputError as error:
            refused = isinstance(error, StoreRefusedError)
            raise (OutputRefusedError if refused else OutputError)(
                f"The output folder cannot be used: {error}"
            ) from error.__cause__
        self.path = path.rstrip("/") or "/"
        """The folder's path in its store."""
        self.location = (
            self.path if isinstance(self._store, LocalStore) else without_password(uri).rstrip("/")
        )
        """The absolute path or the URI of the folder, as a user would write it."""
        self._lock_depth = 0
        self._has_locks = False
        self._pool: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()

    @property
    def remote(self) -> bool:
        """Whether each operation is a request to an object store."""
        return self._store.remote

    def __str__(self) -> str:
        return self.location

    def uri(self, name: str) -> str:
        """The absolute path or the URI of a file in the folder."""
        return f"{self.location.rstrip('/')}/{_checked(name)}"

    def write(self, name: str, data: bytes | Iterable[bytes], *, durable: bool = True) -> None:
        """Write a file completely or not at all, or replace it.

        On a local disk, this writes a temporary file in the same folder and renames it. On an object store, it is one put.

        :param name: name of the file
        :param data: its content, as a whole or in blocks
        :param durable: whether the file must survive a power failure; it always survives the end of the process
        :raises OutputError: if the folder cannot be written to
        """
        path = self._at(name)
        with self._allowed():
            try:
                self._store.write(path, data, durable=durable)
            except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
                raise OutputError(
                    f"{self.uri(name)} cannot be written: {error.strerror or type(error).__name__}."
                ) from error

    def write_later(self, name: str, data: bytes | Iterable[bytes], *, durable: bool = True) -> None:
        """Write a file that nobody reads before `settle`. An object store gets several of them at the same time.

        :param name: name of the file
        :param data: its content, which must not change any more
        :param durable: as in `write`
        :raises OutputError: if an earlier one could not be written
        """
        if not self.remote:
            self.write(name, data, durable=durable)
            return
        if len(self._writing) >= 2 * _AT_ONCE:  # their contents are in memory
            self._writing.popleft().result()
        self._writing.append(self._threads().submit(self.write, name, data))

    def delete_later(self, names: Sequence[str]) -> None:
        """Remove files, those that exist, before `settle` returns. If it fails, they stay.

        :param names: their names
        """
        if not self.remote:
            self._try_to_delete(names)
        elif names:
            self._writing.append(self._threads().submit(self._try_to_delete, names))

    def settle(self) -> None:
        """Wait until all files of `write_later` are written, and those of `delete_later` are removed.

        :raises OutputError: if one could not be written
        """
        while self._writing:
            self._writing.popleft().result()

    @property
    def writing(self) -> bool:
        """Whether `settle` has something to wait for."""
        return bool(self._writing)

    def start(self, work: Callable[[], T]) -> Callable[[], T]:
        """Begin something whose result is needed later: on an object store at once, beside what this thread does.

        :param work: called once at most; it must not take or need a lock
        :return: waits for the result, or raises the error. On a local disk, it does the work.
        """
        return self._threads().submit(work).result if self.remote else work

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="output")
        return self._pool

    def _try_to_delete(self, names: Sequence[str]) -> None:
        with suppress(OSError, OutputError):
            self.delete_all(names)

    @contextmanager
    def lock(self, name: str = "ledger", timeout: float = _LOCK_TIMEOUT) -> Iterator[bool]:
        """Let only one process at a time run the block. Blocks may be nested.

        :param name: what the lock protects
        :param timeout: maximum wait for another process, in seconds
        :return: whether there is a lock: object stores, and file systems without locks, admit several processes
        :raises FolderBusyError: if the other process takes longer
        """
        if self._lock_depth:
            self._lock_depth += 1
            try:
                yield self._has_locks
            finally:
                self._lock_depth -= 1
            return
        with ExitStack() as stack:
            try:
                lock = self._store.lock(f"{self.path.rstrip('/')}/.{_checked(name)}.lock", timeout)
                self._has_locks = stack.enter_context(lock)
            except BusyError:
                raise FolderBusyError(
                    f"Another process has been working in {self} for more than {timeout:g} s. This task has sent nothing; a "
                    "retry continues with what the other process leaves."
                ) from None
            except (NotADirectoryError, FileExistsError, FileNotFoundError, PermissionError) as error:
                raise OutputError(
                    f"{self} cannot be written to: {error.strerror or type(error).__name__}. {_WHAT_TO_DO}"
                ) from None
            except OSError as error:
                raise self._refusal(error) or error from None
            self._lock_depth = 1
            try:
                yield self._has_locks
            finally:
                self._lock_depth = 0

    def create_exclusive(self, name: str, data: bytes) -> bool | None:
        """Write a file if it does not exist. Of all processes that try, one succeeds.

        :param name: name of the file
        :param data: its content, which must be unique to this process
        :return: whether this process succeeded; ``None`` if the store does not support it
        """
        with self._allowed():
            return self._store.create_exclusive(self._at(name), data)

    def check_writable(self) -> None:
        """Check that files can be written here, as far as the store tells without a write.

        :raises OutputError: if they cannot
        """
        obstacle = self._store.obstacle(self.path)
        if obstacle is not None:
            raise OutputError(f"The output folder {self} cannot be written to: {obstacle}. {_WHAT_TO_DO}")

    def try_writing(self) -> None:
        """Check that files can be written here by writing one: object stores allow no other check.

        :raises OutputError: if they cannot
        """
        try:
            self.write(
                _PROBE,
                b"Written to check whether files can be written here. It may be removed.\n",
                durable=False,
            )
        except FileNotFoundError as error:
            raise OutputError(
                f"{self} cannot be written to: it does not exist. Create its bucket first, or choose another one."
            ) from error
        with suppress(OutputError):  # there may be a permission to write, but not to delete
            self.delete(_PROBE)

    def sync(self) -> None:
        """Wait until the names of all files written so far survive a power failure."""
        self._store.sync(self.path)

    def read(self, name: str) -> bytes:
        """Read a whole file.

        :raises FileNotFoundError: if it does not exist
        """
        with self._allowed():
            return self._store.read(self._at(name))

    def lines(self, name: str) -> Generator[bytes, None, None]:
        """Read the lines of a file one by one.

        :raises FileNotFoundError: if it does not exist
        """
        with self._allowed(), self._store.open(self._at(name)) as stream:
            yield from stream

    def size(self, name: str) -> int:
        """Return the size of a file in bytes.

        :raises FileNotFoundError: if it does not exist
        """
        with self._allowed():
            return self._store.info(self._at(name)).size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading bytes, seekable.

        :raises FileNotFoundError: if it does not exist
        """
        with self._allowed():
            return self._store.open(self._at(name))

    def exists(self, name: str) -> bool:
        """Whether a small file exists."""
        with self._allowed():
            try:
                return self._store.exists(self._at(name))
            except NotADirectoryError:
                return False

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""
        with self._allowed():
            self._store.delete(self._at(name))

    def delete_all(self, names: Sequence[str]) -> None:
        """Remove files, those that exist."""
        if names:
            with self._allowed():
                self._store.delete_all([self._at(name) for name in names])

    def names(self, *, work: bool = False) -> list[str]:
        """List the names of all files in the folder, sorted, including files that this package did not write.

        :param work: list the files in the subfolder `WORK` instead; their names start with it
        """
        with self._allowed():
            if work:
                return [f"{WORK}/{name}" for name in self._store.names(f"{self.path}/{WORK}")]
            return self._store.names(self.path)

    def clean(self, older_than: float = _STALE_SECONDS) -> None:
        """Remove temporary files that killed processes have left.

        :param older_than: minimum age in seconds; younger files may be in use
        """
        for folder in (self.path, f"{self.path}/{WORK}"):
            self._store.clean(folder, older_than)

    def close_work(self) -> None:
        """Remove the subfolder `WORK`, if it is empty."""
        self._store.prune(f"{self.path}/{WORK}")

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise OutputRefusedError.of(
                f"{self} cannot be used: its store does not permit reading or writing there. Check the permissions, and the "
                "connection to the store.",
                error,
            ) from error
        except OSError as error:
            refused = self._refusal(error)
            if refused is None:
                raise
            raise refused from error

    def _refusal(self, error: OSError) -> OutputRefusedError | None:
        """The error for a disk that takes no files; ``None`` for another error."""
        if error.errno == errno.EROFS:
            return OutputRefusedError.of(
                f"{self} is on a file system that is read-only. {_WHAT_TO_DO}", error
            )
        if error.errno not in FULL:
            return None
        refused = OutputRefusedError.of(
            f"The disk of {self} is full. Free space there, or raise the quota.", error
        )
        refused.may_pass = True
        return refused

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{_checked(name)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise OutputError(f"{name!r} is not a valid name for a file in an output folder.")
    return name
