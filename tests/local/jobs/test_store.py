"""The job store."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.database import DatabaseClosedError
from airflow_provider_lamini.local.jobs import store as store_module
from airflow_provider_lamini.local.jobs.store import CompletedPrefix, JobStore, StoredResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "platform.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[JobStore]:
    opened = JobStore(file)
    yield opened
    opened.close()


def done(row: int) -> StoredResult:
    return StoredResult(row, f'"output {row}"', "stop")


def test_a_job_is_read_back_as_it_was_stored(store: JobStore, file: Path) -> None:
    stored = store.create("batch", {"model_name": "m", "output_type": None}, ["a", "b"])
    again = JobStore(file)
    try:
        assert again.job(stored.id) == stored
        assert again.job(stored.id, "other kind") is None
        assert again.job("unknown") is None
        assert list(again.unfinished_rows(stored.id)) == [(0, "a"), (1, "b")]
    finally:
        again.close()


def test_only_rows_without_a_result_are_unfinished(store: JobStore) -> None:
    prompts = [f"prompt {number}" for number in range(3 * store_module.PAGE_SIZE + 7)]
    job = store.create("batch", {}, prompts)
    store.save_results(job.id, [done(row) for row in range(0, len(prompts), 2)])
    assert [row for row, _ in store.unfinished_rows(job.id)] == list(range(1, len(prompts), 2))


def test_the_first_result_of_a_row_wins(store: JobStore) -> None:
    job = store.create("batch", {}, ["a"])
    assert store.save_results(job.id, [done(0)]) == 1
    assert store.save_results(job.id, [StoredResult(0, '"other"', "length")]) == 0
    assert store.results(job.id) == [done(0)]
    found = store.job(job.id)
    assert found is not None
    assert found.done == 1


def test_the_completed_prefix_ends_at_the_first_gap(store: JobStore) -> None:
    job = store.create("batch", {}, ["a"] * 5)
    assert store.completed_prefix(job.id) == CompletedPrefix(0, "", "")
    store.save_results(job.id, [done(1)])
    assert store.completed_prefix(job.id) == CompletedPrefix(0, "", "")
    store.save_results(job.id, [done(0), done(3)])
    assert store.completed_prefix(job.id) == CompletedPrefix(2, '"output 0","output 1"', '"stop","stop"')
    store.save_results(job.id, [done(2), done(4)])
    assert store.completed_prefix(job.id).rows == 5


def test_a_job_ends_once(store: JobStore) -> None:
    job = store.create("batch", {}, ["a"])
    assert store.mark_ended(job.id, JobState.FAILED, "first")
    assert not store.mark_ended(job.id, JobState.SUCCEEDED, "second")
    store.mark_started(job.id)
    found = store.job(job.id)
    assert found is not None
    assert (found.state, found.detail, found.runs) == (JobState.FAILED, "first", 0)
    assert store.jobs(unfinished=True) == []
    with pytest.raises(ValueError, match="running"):
        store.mark_ended(job.id, JobState.RUNNING)


def test_old_ended_jobs_are_deleted_with_their_rows(file: Path, store: JobStore) -> None:
    job, alive = store.create("batch", {}, ["a"]), store.create("batch", {}, ["b"])
    store.save_results(job.id, [done(0)])
    store.mark_ended(job.id, JobState.SUCCEEDED)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE jobs SET ended = ended - ? WHERE ended IS NOT NULL", (store_module.KEEP_SECONDS,))
    later = JobStore(file)
    try:
        assert [found.id for found in later.jobs()] == [alive.id]
        assert later.results(job.id) == []
        assert list(later.unfinished_rows(job.id)) == []
    finally:
        later.close()


def test_many_threads_read_and_write_at_once(store: JobStore) -> None:
    job = store.create("batch", {}, ["a"] * 400)
    prefixes: list[int] = []

    def write(first: int) -> None:
        for row in range(first, 400, 4):
            store.save_results(job.id, [done(row)])

    def read() -> None:
        while len(prefixes) < 10_000 and (not prefixes or prefixes[-1] < 400):
            prefixes.append(store.completed_prefix(job.id).rows)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(store.results(job.id)) == 400
    found = store.job(job.id)
    assert found is not None
    assert found.done == 400


def test_a_closed_store_raises(store: JobStore) -> None:
    job = store.create("batch", {}, ["a"])
    store.close()
    with pytest.raises(DatabaseClosedError):
        store.job(job.id)
    with pytest.raises(DatabaseClosedError):
        store.save_results(job.id, [done(0)])
