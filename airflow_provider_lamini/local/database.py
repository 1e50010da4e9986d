"""A small SQLite database that any thread can use."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value = str | int | float | bytes | None
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedDatabaseError(sqlite3.DatabaseError):
    """A database file cannot be read.

    :param path: the file
    :param error: SQLite's error
    """

    def __init__(self, path: Path, error: sqlite3.DatabaseError) -> None:
        super().__init__(f"The database {path} is damaged ({error}).")
        self.sqlite_errorcode = error.sqlite_errorcode


@contextmanager
def opening(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a database, and set the connection up in the block. It stays open unless the block raises.

    :param path: the database file, created if missing
    :raises DamagedDatabaseError: the file cannot be read
    """
    # Only one thread uses a connection at a time, but not always the same thread.
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        yield db
    except BaseException as error:
        db.close()
        if (
            isinstance(error, sqlite3.DatabaseError)
            and getattr(error, "sqlite_errorcode", -1) & 0xFF in _DAMAGE
        ):
            raise DamagedDatabaseError(path, error) from error
        raise


class DatabaseClosedError(RuntimeError):
    """The database was closed because the platform is stopping."""


class Database:
    """A SQLite file in write-ahead mode, with one connection and one statement or transaction at a time.

    :param path: the database file, created if missing
    :param schema: SQL that creates the tables if they do not exist
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._lock = threading.Lock()
        self._closed = False
        with opening(path) as self._db:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(schema)

    def read(self, sql: str, *values: Value) -> list[tuple[Any, ...]]:
        """Run a query and return all its rows.

        :param sql: the query
        :param values: its parameters
        :raises DatabaseClosedError: the database was closed
        """
        with self._lock:
            self._check_open()
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction: commit at its end, roll back if it raises.

        :raises DatabaseClosedError: the database was closed
        """
        with self._lock:
            self._check_open()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # after some errors SQLite has rolled back already
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the database. Closing it twice is harmless."""
        with self._lock:
            self._closed = True
            self._db.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosedError
