"""The output folder of a run. Each file in it is whole or not there."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import FolderBusyError, InputError, OutputError
from airflow_provider_lamini.rows.storage.local import LocalStore
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.locks import BusyError
from airflow_provider_lamini.rows.storage.uris import SCHEME, shown
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_lamini.rows.sources.source import Source

WORK = "_work"
"""The folder within the output folder for what is needed only while a run lasts."""

_NAME = re.compile(rf"(?:{WORK}/)?[A-Za-z0-9_][A-Za-z0-9._-]{{0,199}}")
_STALE = 3600.0
_SAMPLES = (
    "part-00000.jsonl",
    "part-00000.parquet",
    "errors-00000.jsonl",
    "manifest.json",
    "scores.jsonl",
    "predictions.jsonl",
    f"{WORK}/chunk-00000.round-1.json",
)
"""Names of the kinds of files that come to lie here."""
_PATIENCE = 600.0
_PROBE = "_probe"


class OutputFolder:
    """A folder on a local disk or on an object store.

    :param uri: a path or a URI; it need not exist
    :param conn_id: the Airflow connection to the object store
    :raises OutputError: for what is not a path, and for a scheme that this Airflow has no file system for
    """

    def __init__(self, uri: str, conn_id: str | None = None) -> None:
        if not isinstance(uri, str):
            raise OutputError(f"The output folder is {kind(uri)}. Give a path or a URI.")
        if not uri.strip() or "\n" in uri or "\0" in uri:
            raise OutputError("The output folder is empty or no path. Give a path or a URI.")
        if SCHEME.match(uri) and ".." in uri.split("/"):
            raise OutputError(f"The output folder {shown(uri)} has '..' in it. Write the path out.")
        try:
            self._store, self._path = locate(uri, conn_id)
        except InputError as error:
            raise OutputError(f"The output folder cannot be used: {error}") from error
        self._path = self._path.rstrip("/") or "/"
        local = isinstance(self._store, LocalStore)
        self.location = self._path if local else shown(uri).rstrip("/")
        """The folder, absolute, as users may write it."""
        self._inside = 0
        self._has_locks = False

    def __str__(self) -> str:
        return self.location

    def uri(self, name: str) -> str:
        """The URI, or the absolute path, of a file in the folder."""
        return f"{self.location.rstrip('/')}/{_checked(name)}"

    def write(self, name: str, data: bytes | Iterable[bytes], *, durable: bool = True) -> None:
        """Write a file, whole or not at all. A file that is there is replaced.

        On a local disk: a temporary file in the same folder, then a rename. On an object store: one put.

        :param name: the file
        :param data: its content, at once or in pieces
        :param durable: whether not even a loss of power may tear it; the end of the process never does
        :raises OutputError: where the folder cannot be written to
        """
        path = self._at(name)
        with self._allowed():
            try:
                self._store.write(path, data, durable=durable)
            except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
                raise OutputError(f"{self.uri(name)} cannot be written: {type(error).__name__}.") from error

    @contextmanager
    def lock(self, name: str = "ledger", patience: float = _PATIENCE) -> Iterator[bool]:
        """Be the only process that works here, as long as the block lasts. Blocks may be nested.

        :param name: what in the folder it is about
        :param patience: seconds to wait for another process at the most
        :return: whether that is sure: object stores, and file systems without locks, let several in
        :raises FolderBusyError: where the other process takes longer
        """
        if self._inside:
            self._inside += 1
            try:
                yield self._has_locks
            finally:
                self._inside -= 1
            return
        with ExitStack() as inside:
            try:
                lock = self._store.locked(f"{self._path.rstrip('/')}/.{_checked(name)}.lock", patience)
                self._has_locks = inside.enter_context(lock)
            except BusyError:
                raise FolderBusyError(
                    f"Another process has been working in {self} for more than {patience:g} s. Nothing was sent here; a "
                    "retry goes on from what the other one leaves."
                ) from None
            except (NotADirectoryError, FileExistsError, PermissionError) as error:
                raise OutputError(f"{self} cannot be written to: {type(error).__name__}.") from error
            self._inside = 1
            try:
                yield self._has_locks
            finally:
                self._inside = 0

    def create_exclusive(self, name: str, data: bytes) -> bool | None:
        """Write a file that is not there yet; of all processes that try, one succeeds.

        :param name: the file
        :param data: its content, which no other process writes
        :return: whether it was this one; ``None`` where the store cannot tell
        """
        with self._allowed():
            return self._store.create_exclusive(self._at(name), data)

    def check_writable(self) -> None:
        """Make sure that files can be written here, as far as the store tells without writing one.

        :raises OutputError: where they surely cannot
        """
        obstacle = self._store.obstacle(self._path)
        if obstacle is not None:
            raise OutputError(f"The output folder {self} cannot be written to: {obstacle}.")

    def try_writing(self) -> None:
        """Make sure that files can be written here, by writing one: object stores tell in no other way.

        :raises OutputError: where they cannot
        """
        try:
            self.write(
                _PROBE,
                b"Written to see whether files can be written here. It may be removed.\n",
                durable=False,
            )
        except FileNotFoundError as error:
            raise OutputError(
                f"{self} cannot be written to: there is no such place. Make its bucket first, or name another one."
            ) from error
        with suppress(OutputError):  # who may write need not be allowed to remove
            self.delete(_PROBE)

    def sync(self) -> None:
        """Wait until all that was written so far outlives a loss of power."""
        self._store.sync(self._path)

    def read(self, name: str) -> bytes:
        """The whole of a file.

        :raises FileNotFoundError: where there is none
        """
        with self._allowed():
            return self._store.read(self._at(name))

    def lines(self, name: str) -> Iterable[bytes]:
        """The lines of a file, read as they are needed.

        :raises FileNotFoundError: where there is none
        """
        with self._allowed(), self._store.open(self._at(name)) as stream:
            yield from stream

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        with self._allowed():
            try:
                self._store.info(self._at(name))
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with self._allowed():
            self._store.delete(self._at(name))

    def names(self, *, work: bool = False) -> list[str]:
        """Names of the files in the folder, sorted, other people's too.

        :param work: those below `WORK` instead, each with it before the name
        """
        with self._allowed():
            if work:
                return [f"{WORK}/{name}" for name in self._store.names(f"{self._path}/{WORK}")]
            return self._store.names(self._path)

    def clean(self, older_than: float = _STALE) -> None:
        """Remove temporary files of ours that a killed process left.

        :param older_than: seconds since they were last written to. Younger ones may be in use.
        """
        for folder in (self._path, f"{self._path}/{WORK}"):
            self._store.clean(folder, older_than)

    def close_work(self) -> None:
        """Remove the folder `WORK`, where nothing is in it."""
        self._store.prune(f"{self._path}/{WORK}")

    def check_apart(self, source: Source) -> None:
        """Make sure that no file of the input lies in this folder, where our own files would become input.

        :raises OutputError: where one does
        """
        if any(str(Path(path).parent) == self._path for path in source.paths()):
            raise OutputError(f"The output folder {self} holds files of the input. Choose another folder.")
        if any(source.takes(f"{self._path.rstrip('/')}/{name}") for name in _SAMPLES):
            raise OutputError(
                f"The output folder {self} lies where the pattern of the input looks for files. Choose another folder."
            )

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise OutputError(
                f"{self} cannot be used: its store forbids to read or to write there. Look at the permissions, and at the "
                "connection that is used for it."
            ) from error

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{_checked(name)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise OutputError(f"{name!r} is no name for a file in an output folder.")
    return name
