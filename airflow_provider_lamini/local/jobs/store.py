"""The job store: jobs, their prompts and their results in one SQLite file that survives a restart."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_lamini.jobs.state import ENDED, JobState
from airflow_provider_lamini.local.database import DatabaseClosedError, opening

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

PAGE_SIZE: Final = 256
"""Rows read per query."""

KEEP_SECONDS: Final = 7 * 24 * 3600
"""Seconds for which an ended job and its results are kept."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, detail TEXT, params TEXT NOT NULL,
    total INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, ended REAL, crashes INTEGER NOT NULL DEFAULT 0
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

COMPLETED_PREFIX: Final = """
WITH gap AS (
    SELECT min(row) + 1 AS row FROM results r WHERE job_id = ?
    AND NOT EXISTS (SELECT 1 FROM results n WHERE n.job_id = r.job_id AND n.row = r.row + 1)
    AND EXISTS (SELECT 1 FROM results f WHERE f.job_id = ? AND f.row = 0)
)
SELECT count(*), group_concat(output, ','), group_concat(json_quote(finish_reason), ',')
FROM (SELECT output, finish_reason FROM results WHERE job_id = ? AND row < (SELECT row FROM gap) ORDER BY row)
"""


@dataclass(frozen=True, slots=True)
class CompletedPrefix:
    """The completed rows of a job before its first incomplete row.

    :param rows: number of rows
    :param outputs: their outputs, as JSON joined with commas
    :param reasons: their finish reasons, as JSON joined with commas
    """

    rows: int
    outputs: str
    reasons: str


@dataclass(frozen=True, slots=True)
class Job:
    """A stored job.

    :param id: its id
    :param kind: name of its kind
    :param state: its state
    :param detail: why it ended, for a person to read; never a prompt
    :param params: its parameters without the prompts
    :param total: number of rows
    :param done: number of rows with a stored result
    :param runs: how often it was started; more than once after a restart
    :param created: Unix timestamp
    :param ended: Unix timestamp, None until it ends
    :param crashes: how often the process died while it ran, since it last made progress
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
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The stored result of one row.

    :param row: index of the row, from 0, in the order of the prompts
    :param output: its output, as JSON
    :param finish_reason: why the output ended
    :param error: error of this row, if it failed; never a prompt
    """

    row: int
    output: str
    finish_reason: str
    error: str | None = None


class JobStore:
    """Jobs and rows in one SQLite file in write-ahead mode. Any thread may use it.

    Each call commits its own transaction, so a killed process loses only rows in flight.

    :param path: the database file, created if missing
    :param kept_kinds: kinds whose ended jobs are kept until :meth:`delete`
    """

    def __init__(self, path: Path, kept_kinds: Collection[str] = ()) -> None:
        self._path = path
        self._lock = threading.Lock()  # serializes writers; readers do not take it
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with opening(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)
            if "crashes" not in [column[1] for column in db.execute("PRAGMA table_info(jobs)")]:
                db.execute("ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0")
            kept = ", ".join("?" * len(kept_kinds))
            db.execute(
                f"DELETE FROM jobs WHERE ended < ? AND kind NOT IN ({kept})",  # noqa: S608 - contains no outside text
                (time.time() - KEEP_SECONDS, *kept_kinds),
            )
        self._writer = db

    # -- jobs

    def create(
        self, kind: str, params: dict[str, Json], prompts: Sequence[str] = (), job_id: str | None = None
    ) -> Job:
        """Store a new, queued job with its rows.

        :param kind: name of its kind
        :param params: its parameters without the prompts
        :param prompts: one text per row
        :param job_id: a new, unique id; generated by default
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
        """Return a job, or None if it does not exist or is of another kind."""
        found = self._read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        job = _job_from(found[0]) if found else None
        return None if job is None or (kind is not None and job.kind != kind) else job

    def jobs(self, kind: str | None = None, *, unfinished: bool = False) -> list[Job]:
        """List jobs, oldest first.

        :param kind: only jobs of this kind
        :param unfinished: only jobs that have not ended
        """
        where = "WHERE (? IS NULL OR kind = ?)" + (" AND ended IS NULL" if unfinished else "")
        sql = f"SELECT * FROM jobs {where} ORDER BY created, rowid"  # noqa: S608 - contains no outside text
        return [_job_from(found) for found in self._read(sql, (kind, kind))]

    def mark_started(self, job_id: str) -> None:
        """Set a job to running and count the run."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, runs = runs + 1 WHERE id = ? AND ended IS NULL",
                (JobState.RUNNING.value, job_id),
            )

    def requeue_running(self, *, crashed: bool) -> None:
        """Set all running jobs to queued, because their process ends or has ended.

        :param crashed: whether it died, perhaps because of one of these jobs
        """
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET state = ?, crashes = crashes + ? WHERE state = ? AND ended IS NULL",
                (JobState.QUEUED.value, int(crashed), JobState.RUNNING.value),
            )

    def note_progress(self, job_id: str) -> None:
        """Record that a job has made progress, so that earlier crashes were not its fault."""
        with self._write() as db:
            db.execute("UPDATE jobs SET crashes = 0 WHERE id = ? AND crashes > 0", (job_id,))

    def mark_ended(self, job_id: str, state: JobState, detail: str | None = None) -> bool:
        """Set a job's final state. A job that has already ended does not change.

        :return: whether this call ended the job
        """
        if state not in ENDED:
            raise ValueError(f"{state.value!r} is not a final state.")
        with self._write() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, detail = ?, ended = ? WHERE id = ? AND ended IS NULL",
                (state.value, detail, time.time(), job_id),
            )
            return changed.rowcount == 1

    def delete_ended(self) -> None:
        """Delete every job that has ended."""
        with self._write() as db:
            db.execute("DELETE FROM jobs WHERE ended IS NOT NULL")

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended."""
        with self._write() as db:
            db.execute("DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", (job_id,))

    # -- rows

    def unfinished_rows(self, job_id: str) -> Iterator[tuple[int, str]]:
        """Yield the rows of a job without a result, in order. They are read in pages.

        :return: index and prompt of each row
        """
        last = -1
        while True:
            page = self._read(
                "SELECT row, prompt FROM prompts p WHERE job_id = ? AND row > ? AND NOT EXISTS "
                "(SELECT 1 FROM results r WHERE r.job_id = p.job_id AND r.row = p.row) ORDER BY row LIMIT ?",
                (job_id, last, PAGE_SIZE),
            )
            yield from page
            if len(page) < PAGE_SIZE:
                return
            last = page[-1][0]

    def save_results(self, job_id: str, results: Iterable[StoredResult]) -> int:
        """Store results of rows. The first result of a row wins; results of a deleted job are discarded.

        :return: number of new results
        """
        rows = [(job_id, r.row, r.output, r.finish_reason, r.error) for r in results]
        with self._write() as db:
            db.execute("BEGIN")
            if not db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
                db.execute("ROLLBACK")
                return 0
            new = db.executemany("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?)", rows).rowcount
            db.execute("UPDATE jobs SET done = done + ?, crashes = 0 WHERE id = ?", (new, job_id))
            db.execute("COMMIT")
        return new

    def results(self, job_id: str) -> list[StoredResult]:
        """Return the stored results of a job in row order."""
        sql = "SELECT row, output, finish_reason, error FROM results WHERE job_id = ? ORDER BY row"
        return [StoredResult(*found) for found in self._read(sql, (job_id,))]

    def completed_prefix(self, job_id: str) -> CompletedPrefix:
        """Return the completed rows of a job before its first incomplete row.

        SQLite joins them, which is fast and does not block other threads.
        """
        found = self._read(COMPLETED_PREFIX, (job_id,) * 3)
        rows, outputs, reasons = found[0]
        return CompletedPrefix(rows, outputs or "", reasons or "")

    def close(self) -> None:
        """Close the database. Closing it twice is harmless."""
        with self._lock:
            self._closed = True
            self._writer.close()
        while self._idle:
            self._idle.pop().close()

    # -- connections

    def _read(self, sql: str, values: tuple[str | int | None, ...]) -> list[tuple[Any, ...]]:
        self._check_open()
        try:
            db = self._idle.pop()
        except IndexError:
            with opening(self._path) as db:
                db.execute("PRAGMA query_only = ON")
        try:
            found: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
        except BaseException:
            db.close()
            raise
        self._idle.append(db)
        if self._closed:
            self.close()
        return found

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._check_open()
            try:
                yield self._writer
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosedError


def _job_from(found: tuple[Any, ...]) -> Job:
    job_id, kind, state, detail, params, *rest = found
    return Job(job_id, kind, JobState(state), detail, json.loads(params), *rest)


def compact_json(value: Json) -> str:
    """Encode a value as compact JSON, the format of stored results."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
