"""The job runner: final states, limits, holds, and resuming jobs."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.jobs.runner import Hold, JobFailed, JobRunner
from airflow_provider_lamini.local.jobs.store import JobStore
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job


@dataclass
class Kind:
    """A kind of job that does what the test passes in."""

    do: Callable[[RunningJob], None]
    name: str = "errand"
    concurrency: int = 2
    time_limit: float | None = None
    ran: list[str] = field(default_factory=list)

    def run(self, job: RunningJob) -> None:
        self.ran.append(job.job.id)
        self.do(job)


def run_until_ended(job: RunningJob) -> None:
    """Work in small steps until the job is told to end."""
    while True:
        job.check()
        job.sleep(0.01)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(tmp_path / "platform.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def make_runner(store: JobStore) -> Iterator[Callable[..., JobRunner]]:
    runners: list[JobRunner] = []

    def make(*kinds: Kind) -> JobRunner:
        runners.append(JobRunner(store, kinds))
        return runners[-1]

    yield make
    for runner in runners:
        runner.stop()


def stored(store: JobStore, job: Job) -> Job:
    found = store.job(job.id)
    assert found is not None
    return found


def ended(store: JobStore, job: Job) -> Job:
    wait_until(lambda: stored(store, job).ended is not None)
    return stored(store, job)


def test_a_job_that_returns_has_succeeded(store: JobStore, make_runner: Callable[..., JobRunner]) -> None:
    kind = Kind(lambda _: None)
    job = make_runner(kind).submit("errand", {"to": "shop"})
    assert ended(store, job).state is JobState.SUCCEEDED
    assert kind.ran == [job.id]


def test_a_job_that_fails_says_why(store: JobStore, make_runner: Callable[..., JobRunner]) -> None:
    def fail(_: RunningJob) -> None:
        raise JobFailed("The shop is closed.")

    job = make_runner(Kind(fail)).submit("errand", {})
    assert (ended(store, job).state, stored(store, job).detail) == (JobState.FAILED, "The shop is closed.")


def test_an_unexpected_error_fails_the_job_without_showing_its_data(
    store: JobStore, make_runner: Callable[..., JobRunner], caplog: pytest.LogCaptureFixture
) -> None:
    def raise_error(_: RunningJob) -> None:
        raise KeyError("SECRET PROMPT")

    with caplog.at_level(logging.DEBUG):
        job = make_runner(Kind(raise_error)).submit("errand", {})
        assert ended(store, job).state is JobState.FAILED
    assert "KeyError" in str(stored(store, job).detail)
    assert "SECRET" not in str(stored(store, job).detail) + caplog.text


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED, JobState.TIMED_OUT])
def test_a_running_job_can_be_ended(
    store: JobStore, make_runner: Callable[..., JobRunner], state: JobState
) -> None:
    runner = make_runner(Kind(run_until_ended))
    job = runner.submit("errand", {})
    wait_until(lambda: stored(store, job).state is JobState.RUNNING)
    assert runner.end(job.id, state, "enough")
    assert (stored(store, job).state, stored(store, job).detail) == (state, "enough")
    assert not runner.end(job.id, JobState.FAILED)


def test_a_job_cancelled_in_the_queue_never_runs(make_runner: Callable[..., JobRunner]) -> None:
    kind = Kind(run_until_ended, concurrency=1)
    runner = make_runner(kind)
    first, second, third = (runner.submit("errand", {}) for _ in range(3))
    wait_until(lambda: kind.ran == [first.id])
    runner.end(second.id, JobState.CANCELLED)
    runner.end(first.id, JobState.CANCELLED)
    wait_until(lambda: len(kind.ran) == 2)
    assert kind.ran == [first.id, third.id]


def test_a_job_times_out(store: JobStore, make_runner: Callable[..., JobRunner]) -> None:
    job = make_runner(Kind(run_until_ended, time_limit=0.1)).submit("errand", {})
    assert ended(store, job).state is JobState.TIMED_OUT
    assert "time limit" in str(stored(store, job).detail)


def test_the_concurrency_of_a_kind_is_respected(
    store: JobStore, make_runner: Callable[..., JobRunner]
) -> None:
    running, peak, lock, three = 0, 0, threading.Lock(), threading.Barrier(3)

    def count(_: RunningJob) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        three.wait(20)  # raises unless three jobs run at once
        with lock:
            running -= 1

    runner = make_runner(Kind(count, concurrency=3))
    jobs = [runner.submit("errand", {}) for _ in range(12)]
    for job in jobs:
        assert ended(store, job).state is JobState.SUCCEEDED
    assert peak == 3


def test_a_busy_kind_does_not_delay_another(store: JobStore, make_runner: Callable[..., JobRunner]) -> None:
    runner = make_runner(Kind(run_until_ended, concurrency=1), Kind(lambda _: None, name="other"))
    runner.submit("errand", {})
    runner.submit("errand", {})
    assert ended(store, runner.submit("other", {})).state is JobState.SUCCEEDED


def test_a_held_job_waits_until_it_is_released(
    store: JobStore, make_runner: Callable[..., JobRunner]
) -> None:
    runner = make_runner(Kind(lambda _: None))
    runner.hold(Hold(kind="errand"))
    job = runner.submit("errand", {})
    time.sleep(0.15)
    assert stored(store, job).state is JobState.QUEUED
    runner.release()
    assert ended(store, job).state is JobState.SUCCEEDED


def test_a_held_job_can_be_cancelled(store: JobStore, make_runner: Callable[..., JobRunner]) -> None:
    kind = Kind(lambda _: None)
    runner = make_runner(kind)
    runner.hold(Hold())
    job = runner.submit("errand", {})
    runner.end(job.id, JobState.CANCELLED)
    runner.release()
    time.sleep(0.1)
    assert stored(store, job).state is JobState.CANCELLED
    assert kind.ran == []


def test_the_next_runner_resumes_running_and_waiting_jobs(
    store: JobStore, make_runner: Callable[..., JobRunner]
) -> None:
    before = make_runner(Kind(run_until_ended, concurrency=1))
    jobs = [before.submit("errand", {}) for _ in range(3)]
    before.end(jobs[1].id, JobState.CANCELLED)
    wait_until(lambda: stored(store, jobs[0]).state is JobState.RUNNING)
    before.stop()
    time.sleep(0.1)
    assert [stored(store, job).state for job in (jobs[0], jobs[2])] == [JobState.QUEUED] * 2

    kind = Kind(lambda _: None)
    assert make_runner(kind).resume() == 2
    assert ended(store, jobs[0]).runs == 2
    assert ended(store, jobs[2]).runs == 1
    assert sorted(kind.ran) == sorted([jobs[0].id, jobs[2].id])


def test_a_job_of_an_unknown_kind_stays_queued(
    store: JobStore, make_runner: Callable[..., JobRunner], caplog: pytest.LogCaptureFixture
) -> None:
    job = store.create("from the future", {})
    make_runner(Kind(run_until_ended)).resume()
    assert stored(store, job).state is JobState.QUEUED
    assert "from the future" in caplog.text
