"""Databases for tests: SQLite in a file, and a real PostgreSQL server on a socket in a temporary folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import free_port

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
            return sqlite3.connect(self.connection["host"], timeout=60)
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


def failing_query(folder: Path, monkeypatch: pytest.MonkeyPatch, *columns: str) -> dict[str, str]:
    """Return the arguments of a query for 3,000 rows with the text ``a``, whose database fails after 2,000 of them.

    :param folder: where the database is
    :param monkeypatch: defines its connection
    :param columns: the columns
    """
    database = sqlite(folder)
    database.run("CREATE TABLE numbers (id INTEGER PRIMARY KEY)")
    database.fill("numbers", [(number,) for number in range(3000)])
    database.connect(monkeypatch)
    value = "CASE WHEN id > 2000 THEN abs(-9223372036854775807 - 1) ELSE 'a' END"
    selected = ", ".join(f"{value} AS {column}" for column in columns)
    return {"input_sql": f"SELECT {selected} FROM numbers ORDER BY id", "input_conn_id": CONN_ID}


def postgres_binaries() -> Path | None:
    """Return the folder with PostgreSQL's programs; ``None`` if it is not installed."""
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3])
    return versions[-1].parent if versions else None


class PostgresServer:
    """A PostgreSQL server in a folder. It listens on loopback, and on a socket in the folder.

    :param folder: an empty folder
    :ivar database: its only database
    """

    def __init__(self, folder: Path) -> None:
        binaries = postgres_binaries()
        if binaries is None:
            raise FileNotFoundError("PostgreSQL is not installed: install Debian's package postgresql")
        self._binaries = binaries
        self._folder = folder
        self._owner = _owner(folder)
        fields = {"conn_type": "postgres", "host": "127.0.0.1", "port": free_port()}
        self.database = Database({**fields, "login": "airflow", "schema": "postgres"}, "%s")
        self._run("initdb", "-A", "trust", "-U", "airflow", "-E", "UTF8", "-N")

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.database.connection["port"],
            "unix_socket_directories": self._folder,
            "fsync": "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-l", f"{self._folder}/log", "-w", "-t", "60", "-o", options, "start")

    def kill(self) -> None:
        """End the server at once, like a crash: no connection is closed in order, and the next start recovers."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [f"{self._binaries}/{program}", "-D", f"{self._folder}/data", *arguments],
            user=self._owner,
            check=True,
            capture_output=True,
            timeout=120,
            cwd="/",
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server during the block. It may be killed and started again meanwhile."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def postgres() -> Iterator[Database]:
    """Run a PostgreSQL server during the block, and yield its database."""
    with postgres_server() as server:
        yield server.database


def _owner(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root: give the folder to another user, if this one is root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    owner = names.get("postgres", names["nobody"])
    os.chown(folder, owner, -1)
    return owner
