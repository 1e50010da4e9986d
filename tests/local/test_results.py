"""Results of row jobs, and how fast they are encoded."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.jobs.store import JobStore, StoredResult
from airflow_provider_lamini.local.routes.completions import batch_results, partial_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(tmp_path / "platform.sqlite")
    yield opened
    opened.close()


def started(store: JobStore, rows: int) -> str:
    job_id = store.create("batch_completions", {}, ["a prompt"] * rows).id
    store.mark_started(job_id)
    return job_id


def read_results(store: JobStore, job_id: str) -> Any:
    job = store.job(job_id)
    assert job is not None
    return json.loads(batch_results(store, job))


def test_a_queued_batch_has_no_results(store: JobStore) -> None:
    assert read_results(store, store.create("batch_completions", {}, ["a"]).id) == {}


def test_rows_after_a_gap_are_hidden_until_the_gap_is_closed(store: JobStore) -> None:
    job_id = started(store, 4)
    store.save_results(job_id, [StoredResult(0, '{"a": 1}', "stop"), StoredResult(2, '"c"', "length")])
    assert read_results(store, job_id) == {
        "outputs": [{"a": 1}, None, None, None],
        "finish_reason": ["stop", None, None, None],
    }
    store.save_results(job_id, [StoredResult(1, "null", "error", "broke")])
    assert read_results(store, job_id)["finish_reason"] == ["stop", "error", "length", None]


def test_an_ended_batch_shows_all_its_completed_rows(store: JobStore) -> None:
    job_id = started(store, 3)
    store.save_results(job_id, [StoredResult(2, '"c"', "stop")])
    store.mark_ended(job_id, JobState.TIMED_OUT)
    assert read_results(store, job_id) == {
        "outputs": [None, None, "c"],
        "finish_reason": ["timeout", "timeout", "stop"],
    }


def test_partial_texts_are_shown_for_incomplete_rows(store: JobStore) -> None:
    job_id = started(store, 3)
    store.save_results(job_id, [StoredResult(0, '"whole"', "stop")])
    job = store.job(job_id)
    assert job is not None
    assert json.loads(partial_results(store, job, {1: 'half "quoted'})) == {
        "outputs": ["whole", 'half "quoted', None],
        "finish_reason": ["stop", None, None],
    }


def test_a_large_batch_is_cheap_to_poll(store: JobStore) -> None:
    rows = 20_000
    job_id = started(store, rows)
    store.save_results(
        job_id, [StoredResult(row, json.dumps("words " * 20), "stop") for row in range(rows - 1)]
    )
    job = store.job(job_id)
    assert job is not None
    began = time.perf_counter()
    body = batch_results(store, job)
    assert time.perf_counter() - began < 0.5
    assert json.loads(body)["finish_reason"].count(None) == 1
