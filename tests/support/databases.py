"""Databases for tests: SQLite in a file, and a real PostgreSQL server on a socket in a temporary folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

CONN_ID = "warehouse"


@dataclass(frozen=True)
class Database:
    """A database.

    :param connection: the fields of its Airflow connection
    :param mark: the placeholder of its driver
    """

    connection: dict[str, Any]
    mark: str

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Define the Airflow connection in the environment."""
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(self.connection))

    def open(self) -> Any:
        """Open a connection of the driver."""
        if self.connection["conn_type"] == "sqlite":
            return sqlite3.connect(self.connection["host"])
        import psycopg

        fields = self.connection
        return psycopg.connect(
            host=fields["host"], port=fields["port"], user=fields["login"], dbname=fields["schema"]
        )

    def run(self, *statements: str) -> None:
        """Run statements in one transaction."""
        with closing(self.open()) as connection:
            for statement in statements:
                connection.cursor().execute(statement)
            connection.commit()

    def fill(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows."""
        marks = ", ".join([self.mark] * len(rows[0]))
        with closing(self.open()) as connection:
            connection.cursor().executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            connection.commit()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with closing(self.open()) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]


def sqlite(folder: Path) -> Database:
    """Return an empty SQLite database."""
    return Database({"conn_type": "sqlite", "host": str(folder / "warehouse.db")}, "?")


def postgres_binaries() -> Path | None:
    """Return the folder with PostgreSQL's programs; ``None`` if it is not installed."""
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3])
    return versions[-1].parent if versions else None


@contextmanager
def postgres() -> Iterator[Database]:
    """Run a PostgreSQL server during the block. It listens on loopback, and on a socket in a temporary folder."""
    binaries = postgres_binaries()
    if binaries is None:
        raise FileNotFoundError("PostgreSQL is not installed: install Debian's package postgresql")
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        owner = _owner(Path(folder))
        data = f"{folder}/data"
        _run([f"{binaries}/initdb", "-D", data, "-A", "trust", "-U", "airflow", "-E", "UTF8", "-N"], owner)
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        )
        log = f"{folder}/log"
        _run([f"{binaries}/pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start"], owner)
        try:
            yield Database(
                {
                    "conn_type": "postgres",
                    "host": "127.0.0.1",
                    "port": port,
                    "login": "airflow",
                    "schema": "postgres",
                },
                "%s",
            )
        finally:
            _run([f"{binaries}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], owner)


def _owner(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root: give the folder to another user, if this one is root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    owner = names.get("postgres", names["nobody"])
    os.chown(folder, owner, -1)
    return owner


def _run(command: list[str], owner: int | None) -> None:
    subprocess.run(
        command, user=owner, check=True, capture_output=True, timeout=120, cwd="/", stdin=subprocess.DEVNULL
    )
