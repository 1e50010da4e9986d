"""What outlives the process: jobs, their prompts and their results, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_lamini.jobs.state import ENDED, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

PAGE: Final = 256
"""Rows read from the file at a time."""

KEEP_SECONDS: Final = 7 * 24 * 3600
"""How long an ended job and its results are kept."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, detail TEXT, params TEXT NOT NULL,
    total INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, ended REAL
);
CREATE INDEX IF NOT EXISTS jobs_by_kind ON jobs (kind, created);
CREATE TABLE IF NOT EXISTS prompts (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, row INTEGER NOT NULL, prompt TEXT NOT NULL,
    PRIMARY KEY (job_id, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, row INTEGER NOT NULL,
    output TEXT NOT NULL, finish_reason TEXT NOT NULL, error TEXT,
    PRIMARY KEY (job_id, row)
) WITHOUT ROWID;
"""


PREFIX: Final = """
WITH gap AS (
    SELECT min(row) + 1 AS row FROM results r WHERE job_id = ?
    AND NOT EXISTS (SELECT 1 FROM results n WHERE n.job_id = r.job_id AND n.row = r.row + 1)
    AND EXISTS (SELECT 1 FROM results f WHERE f.job_id = ? AND f.row = 0)
)
SELECT count(*), group_concat(output, ','), group_concat(json_quote(finish_reason), ',')
FROM (SELECT output, finish_reason FROM results WHERE job_id = ? AND row < (SELECT row FROM gap) ORDER BY row)
"""


@dataclass(frozen=True, slots=True)
class DonePrefix:
    """The rows of a job that are done, up to the first one that is not.

    :param rows: how many
    :param outputs: their outputs, as the inside of a JSON list
    :param reasons: their finish reasons, as the inside of a JSON list
    """

    rows: int
    outputs: str
    reasons: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is stored.

    :param id: what the client was given
    :param kind: the name of its kind
    :param state: where it stands
    :param detail: why it ended as it did, for a person; never a prompt
    :param params: what was asked for, without the prompts
    :param total: rows in it
    :param done: rows whose result is stored
    :param runs: how often it was started, more than once after a restart
    :param created: seconds since the epoch
    :param ended: seconds since the epoch, None while it lives
    """

    id: str
    kind: str
    state: JobState
    detail: str | None
    params: dict[str, Json]
    total: int
    done: int
    runs: int
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """The stored result of one row.

    :param row: its number, from 0, in the order of the prompts
    :param output: what is answered for it, as JSON text
    :param finish_reason: why it ended
    :param error: what went wrong with this row, if anything; never a prompt
    """

    row: int
    output: str
    finish_reason: str
    error: str | None = None


class Store:
    """Jobs and rows in one SQLite file with a write-ahead log; every method may be called from any thread.

    A result counts once its transaction is committed, so a killed process loses only rows in flight.

    :param path: the file; made if missing
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # one writer at a time; readers do not wait for it
        self._writer = self._connect(write=True)
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with self._write() as db:
            db.executescript(SCHEMA)
            db.execute("DELETE FROM jobs WHERE ended < ?", (time.time() - KEEP_SECONDS,))

    # -- jobs

    def create(
        self, kind: str, params: dict[str, Json], prompts: Sequence[str] = (), job_id: str | None = None
    ) -> Job:
        """Store a new job with its rows, queued.

        :param kind: the name of its kind
        :param params: what was asked for, without the prompts
        :param prompts: one text per row
        :param job_id: its id, which no other job has; one is made up where none is given
        """
        job_id, now = job_id or uuid.uuid4().hex, time.time()
        with self._write() as db:
            db.execute("BEGIN")
            db.execute(
                "INSERT INTO jobs (id, kind, state, params, total, created) VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, kind, JobState.QUEUED.value, json.dumps(params), len(prompts), now),
            )
            rows = ((job_id, row, prompt) for row, prompt in enumerate(prompts))
            db.executemany("INSERT INTO prompts VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
        return Job(job_id, kind, JobState.QUEUED, None, params, len(prompts), 0, 0, now, None)

    def job(self, job_id: str, kind: str | None = None) -> Job | None:
        """The job of that id, None where there is none or it is of another kind."""
        found = self._read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        job = _job(found[0]) if found else None
        return None if job is None or (kind is not None and job.kind != kind) else job

    def jobs(self, kind: str | None = None, *, alive: bool = False) -> list[Job]:
        """Jobs, oldest first.

        :param kind: only those of this kind
        :param alive: only those that have not ended
        """
        where = "WHERE (? IS NULL OR kind = ?)" + (" AND ended IS NULL" if alive else "")
        sql = f"SELECT * FROM jobs {where} ORDER BY created, rowid"  # noqa: S608 - no text from outside
        return [_job(found) for found in self._read(sql, (kind, kind))]

    def started(self, job_id: str) -> None:
        """Note that a job runs, once more."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, runs = runs + 1 WHERE id = ? AND ended IS NULL",
                (JobState.RUNNING.value, job_id),
            )

    def ended(self, job_id: str, state: JobState, detail: str | None = None) -> bool:
        """Note how a job ended; a job that has ended already stays as it is.

        :returns: whether it was this call that ended it
        """
        if state not in ENDED:
            raise ValueError(f"{state.value!r} is not an end.")
        with self._write() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, detail = ?, ended = ? WHERE id = ? AND ended IS NULL",
                (state.value, detail, time.time(), job_id),
            )
            return changed.rowcount == 1

    def delete_ended(self) -> None:
        """Forget every job that has ended."""
        with self._write() as db:
            db.execute("DELETE FROM jobs WHERE ended IS NOT NULL")

    # -- rows

    def unfinished(self, job_id: str) -> Iterator[tuple[int, str]]:
        """The rows of a job without a result, in order, read a page at a time.

        :returns: row number and prompt
        """
        last = -1
        while True:
            page = self._read(
                "SELECT row, prompt FROM prompts p WHERE job_id = ? AND row > ? AND NOT EXISTS "
                "(SELECT 1 FROM results r WHERE r.job_id = p.job_id AND r.row = p.row) ORDER BY row LIMIT ?",
                (job_id, last, PAGE),
            )
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1][0]

    def save(self, job_id: str, results: Iterable[RowResult]) -> int:
        """Store results of rows; the first result of a row stays. Of a job that was deleted nothing is stored.

        :returns: how many were new
        """
        rows = [(job_id, r.row, r.output, r.finish_reason, r.error) for r in results]
        with self._write() as db:
            db.execute("BEGIN")
            if not db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
                db.execute("ROLLBACK")
                return 0
            new = db.executemany("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?)", rows).rowcount
            db.execute("UPDATE jobs SET done = done + ? WHERE id = ?", (new, job_id))
            db.execute("COMMIT")
        return new

    def results(self, job_id: str) -> list[RowResult]:
        """The stored results of a job, in the order of its rows."""
        sql = "SELECT row, output, finish_reason, error FROM results WHERE job_id = ? ORDER BY row"
        return [RowResult(*found) for found in self._read(sql, (job_id,))]

    def done_prefix(self, job_id: str) -> DonePrefix:
        """The rows of a job that are done, up to the first one that is not.

        Joined inside SQLite: that is quick, and lets other threads run meanwhile.
        """
        found = self._read(PREFIX, (job_id,) * 3)
        rows, outputs, reasons = found[0]
        return DonePrefix(rows, outputs or "", reasons or "")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        with self._lock:
            self._closed = True
            self._writer.close()
        while self._idle:
            self._idle.pop().close()

    # -- connections

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        # A connection is used by one thread at a time, not always the same one.
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL" if write else "PRAGMA query_only = ON")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _read(self, sql: str, values: tuple[str | int | None, ...]) -> list[tuple[Any, ...]]:
        self._refuse_closed()
        try:
            db = self._idle.pop()
        except IndexError:
            db = self._connect(write=False)
        found: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
        self._idle.append(db)
        if self._closed:
            self.close()
        return found

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._refuse_closed()
            try:
                yield self._writer
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosedError


class StoreClosedError(RuntimeError):
    """The platform is stopping: nothing is stored any more."""


def _job(found: tuple[Any, ...]) -> Job:
    job_id, kind, state, detail, params, *rest = found
    return Job(job_id, kind, JobState(state), detail, json.loads(params), *rest)


def as_json(value: Json) -> str:
    """A value as compact JSON text, as results store it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
