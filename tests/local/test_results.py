"""What is answered for jobs made of rows, and how quickly."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.routes.results import rows_in_order, rows_so_far
from airflow_provider_lamini.local.store import RowResult, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "platform.sqlite")
    yield opened
    opened.close()


def started(store: Store, rows: int) -> str:
    job_id = store.create("batch_completions", {}, ["a prompt"] * rows).id
    store.started(job_id)
    return job_id


def shown(store: Store, job_id: str) -> Any:
    job = store.job(job_id)
    assert job is not None
    return json.loads(rows_in_order(store, job))


def test_a_queued_batch_shows_nothing(store: Store) -> None:
    assert shown(store, store.create("batch_completions", {}, ["a"]).id) == {}


def test_rows_after_a_gap_are_kept_back_until_it_is_closed(store: Store) -> None:
    job_id = started(store, 4)
    store.save(job_id, [RowResult(0, '{"a": 1}', "stop"), RowResult(2, '"c"', "length")])
    assert shown(store, job_id) == {
        "outputs": [{"a": 1}, None, None, None],
        "finish_reason": ["stop", None, None, None],
    }
    store.save(job_id, [RowResult(1, "null", "error", "broke")])
    assert shown(store, job_id)["finish_reason"] == ["stop", "error", "length", None]


def test_an_ended_batch_shows_every_row_that_it_has(store: Store) -> None:
    job_id = started(store, 3)
    store.save(job_id, [RowResult(2, '"c"', "stop")])
    store.ended(job_id, JobState.TIMED_OUT)
    assert shown(store, job_id) == {
        "outputs": [None, None, "c"],
        "finish_reason": ["timeout", "timeout", "stop"],
    }


def test_growing_texts_are_shown_where_there_is_no_result(store: Store) -> None:
    job_id = started(store, 3)
    store.save(job_id, [RowResult(0, '"whole"', "stop")])
    job = store.job(job_id)
    assert job is not None
    assert json.loads(rows_so_far(store, job, {1: 'half "quoted'})) == {
        "outputs": ["whole", 'half "quoted', None],
        "finish_reason": ["stop", None, None],
    }


def test_a_big_batch_is_cheap_to_poll(store: Store) -> None:
    rows = 20_000
    job_id = started(store, rows)
    store.save(job_id, [RowResult(row, json.dumps("words " * 20), "stop") for row in range(rows - 1)])
    job = store.job(job_id)
    assert job is not None
    began = time.perf_counter()
    body = rows_in_order(store, job)
    assert time.perf_counter() - began < 0.5
    assert json.loads(body)["finish_reason"].count(None) == 1
