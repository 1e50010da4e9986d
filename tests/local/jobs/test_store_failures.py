"""A store that fails, a process that dies: no job keeps its slot, and none is taken up for ever."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import psutil
import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.database import DamagedDatabaseError
from airflow_provider_lamini.local.jobs import runner as runner_module
from airflow_provider_lamini.local.jobs.runner import MAX_CRASHES, JobRunner
from airflow_provider_lamini.local.jobs.store import JobStore, StoredResult
from airflow_provider_lamini.local.rag.index import Index
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job


class Errand:
    """A kind of job with one slot, which stores one result."""

    name = "errand"
    concurrency = 1
    time_limit = None

    def run(self, job: RunningJob) -> None:
        job.save_results([StoredResult(0, '"done"', "stop")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "platform.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    opened = JobStore(path)
    yield opened
    opened.close()


@pytest.fixture
def runner(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobRunner]:
    monkeypatch.setattr(runner_module, "STORE_RETRIES", (0.01, 0.01))
    monkeypatch.setattr(runner_module, "RECORD_PAUSE", 0.05)
    created = JobRunner(store, [Errand()])
    yield created
    created.stop()


def execute(path: Path, sql: str) -> None:
    """Change the database from another connection."""
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()


def refuse(path: Path, when: str) -> None:
    """Make writes to the table of jobs fail."""
    execute(
        path,
        f"CREATE TRIGGER refuse BEFORE UPDATE ON jobs WHEN {when} BEGIN SELECT RAISE(FAIL, 'disk is full'); END",
    )


def stored(store: JobStore, job: Job) -> Job:
    found = store.job(job.id)
    assert found is not None
    return found


def test_a_job_whose_end_cannot_be_stored_gives_its_slot_to_the_next(
    store: JobStore, runner: JobRunner, path: Path
) -> None:
    refuse(path, "NEW.ended IS NOT NULL")
    first, second = (runner.submit("errand", {}, ["a"]) for _ in range(2))
    wait_until(lambda: stored(store, second).done == 1)
    assert stored(store, first).state is JobState.RUNNING
    execute(path, "DROP TRIGGER refuse")
    wait_until(lambda: [stored(store, job).state for job in (first, second)] == [JobState.SUCCEEDED] * 2)


def test_a_job_whose_results_cannot_be_stored_fails_after_some_retries(
    store: JobStore, runner: JobRunner, path: Path
) -> None:
    refuse(path, "NEW.done > OLD.done")
    job = runner.submit("errand", {}, ["a"])
    wait_until(lambda: stored(store, job).ended is not None)
    assert stored(store, job).state is JobState.FAILED
    execute(path, "DROP TRIGGER refuse")
    job = runner.submit("errand", {}, ["a"])
    wait_until(lambda: stored(store, job).state is JobState.SUCCEEDED)


def test_a_short_failure_of_the_store_costs_nothing(
    store: JobStore, runner: JobRunner, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "STORE_RETRIES", (0.5, 0.5, 0.5))
    refuse(path, "NEW.done > OLD.done")
    job = runner.submit("errand", {}, ["a"])
    wait_until(lambda: stored(store, job).state is JobState.RUNNING)
    execute(path, "DROP TRIGGER refuse")
    wait_until(lambda: stored(store, job).state is JobState.SUCCEEDED)


def die(path: Path, job_id: str, *, done: bool = False) -> None:
    """Start a job and let its process die, with or without a result first."""
    store = JobStore(path)
    store.mark_started(job_id)
    if done:
        store.save_results(job_id, [StoredResult(len(store.results(job_id)), '"x"', "stop")])
    store.close()


def resume(path: Path) -> None:
    """Let the next process take up the jobs, and stop at once."""
    store = JobStore(path)
    runner = JobRunner(store, [])
    runner.resume()
    runner.stop()
    store.close()


def test_a_job_that_kills_its_process_again_and_again_is_failed(path: Path) -> None:
    store = JobStore(path)
    poison, other = (store.create("errand", {}, ["a"]) for _ in range(2))
    store.close()
    for _ in range(MAX_CRASHES):
        die(path, poison.id)
        resume(path)
    store = JobStore(path)
    assert stored(store, poison).state is JobState.FAILED
    assert f"died {MAX_CRASHES} times" in str(stored(store, poison).detail)
    assert stored(store, other).state is JobState.QUEUED
    store.close()


def test_a_job_that_makes_progress_is_resumed_after_any_number_of_crashes(path: Path) -> None:
    store = JobStore(path)
    job = store.create("errand", {}, ["a"] * 20)
    store.close()
    for _ in range(3 * MAX_CRASHES):
        die(path, job.id, done=True)
        resume(path)
    store = JobStore(path)
    assert (stored(store, job).state, stored(store, job).done) == (JobState.QUEUED, 3 * MAX_CRASHES)
    store.close()


def test_a_platform_that_is_stopped_is_no_crash(path: Path) -> None:
    store = JobStore(path)
    job = store.create("errand", {}, ["a"])
    for _ in range(2 * MAX_CRASHES):
        store.mark_started(job.id)
        JobRunner(store, []).stop()
        store.requeue_running(crashed=True)
    assert stored(store, job).crashes == 0
    store.close()


def test_a_database_of_an_earlier_version_gets_the_new_column(path: Path) -> None:
    JobStore(path).close()
    execute(path, "ALTER TABLE jobs DROP COLUMN crashes")
    store = JobStore(path)
    assert store.create("errand", {}).crashes == 0
    assert [job.crashes for job in store.jobs()] == [0]
    store.close()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
@pytest.mark.parametrize("opened", [JobStore, Index])
def test_a_damaged_database_is_named_and_not_kept_open(
    path: Path, content: bytes, opened: type[JobStore | Index]
) -> None:
    path.write_bytes(content)
    with pytest.raises(DamagedDatabaseError, match=r"platform\.sqlite is damaged"):
        opened(path)
    assert str(path) not in [file.path for file in psutil.Process().open_files()]
