"""The worker pool shares its workers fairly."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool, WorkQueue
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make_pool() -> Iterator[Callable[[int], WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(workers: int) -> WorkerPool:
        pools.append(WorkerPool(workers, "test"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def units(count: int, do: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    return (lambda number=number: do(number) for number in range(count))  # type: ignore[misc]


def wait_for(gate: threading.Event) -> Callable[[int], None]:
    def wait(_: int) -> None:
        assert gate.wait(20)

    return wait


def test_every_unit_runs_once(make_pool: Callable[[int], WorkerPool]) -> None:
    ran: list[int] = []
    queue = WorkQueue(units(500, ran.append), interactive=False)
    make_pool(4).add(queue)
    queue.finished.result(10)
    assert sorted(ran) == list(range(500))


def test_an_empty_queue_is_finished(make_pool: Callable[[int], WorkerPool]) -> None:
    queue = WorkQueue(iter(()), interactive=True)
    make_pool(1).add(queue)
    queue.finished.result(5)


def test_units_are_created_when_a_worker_is_free(make_pool: Callable[[int], WorkerPool]) -> None:
    made: list[int] = []
    gate = threading.Event()

    def make_units() -> Iterator[Callable[[], None]]:
        for number in range(100):
            made.append(number)
            yield lambda: wait_for(gate)(0)

    queue = WorkQueue(make_units(), interactive=False)
    make_pool(3).add(queue)
    wait_until(lambda: len(made) == 2)
    time.sleep(0.1)
    assert len(made) == 2  # the third worker is reserved for interactive work
    gate.set()
    queue.finished.result(10)


def test_a_unit_that_raises_ends_only_its_own_queue(make_pool: Callable[[int], WorkerPool]) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise LookupError("three")

    pool = make_pool(2)
    bad, good = (
        WorkQueue(units(1000, fail), interactive=False),
        WorkQueue(units(100, lambda _: None), interactive=False),
    )
    pool.add(bad)
    pool.add(good)
    with pytest.raises(LookupError, match="three"):
        bad.finished.result(10)
    good.finished.result(10)


def test_an_error_while_creating_units_ends_the_queue(make_pool: Callable[[int], WorkerPool]) -> None:
    def broken() -> Iterator[Callable[[], None]]:
        yield lambda: None
        raise OSError("the file is gone")

    queue = WorkQueue(broken(), interactive=True)
    make_pool(2).add(queue)
    with pytest.raises(OSError, match="gone"):
        queue.finished.result(10)


def test_queues_take_turns(make_pool: Callable[[int], WorkerPool]) -> None:
    order: list[str] = []
    gate = threading.Event()
    pool = make_pool(1)
    first = WorkQueue(units(1, wait_for(gate)), interactive=False)
    pool.add(first)
    queues = [
        WorkQueue(units(3, lambda _, name=name: order.append(name)), interactive=False) for name in "abc"
    ]  # type: ignore[misc]
    for queue in queues:
        pool.add(queue)
    gate.set()
    for queue in queues:
        queue.finished.result(10)
    assert order == list("abcabcabc")


def test_interactive_work_finds_a_free_worker_despite_batches(make_pool: Callable[[int], WorkerPool]) -> None:
    gate, started = threading.Event(), threading.Event()

    def work(number: int) -> None:
        started.set()
        wait_for(gate)(number)

    pool = make_pool(2)
    batch = WorkQueue(units(10, work), interactive=False)
    pool.add(batch)
    assert started.wait(10)
    question = WorkQueue(units(1, lambda _: None), interactive=True)
    pool.add(question)
    question.finished.result(5)
    assert not batch.finished.done()
    gate.set()
    batch.finished.result(10)


def test_batches_make_progress_under_constant_interactive_load(
    make_pool: Callable[[int], WorkerPool],
) -> None:
    ran: list[str] = []
    pool = make_pool(1)
    gate = threading.Event()
    pool.add(WorkQueue(units(1, wait_for(gate)), interactive=True))
    questions = WorkQueue(units(400, lambda _: ran.append("question")), interactive=True)
    batch = WorkQueue(units(20, lambda _: ran.append("row")), interactive=False)
    pool.add(questions)
    pool.add(batch)
    gate.set()
    questions.finished.result(10)
    batch.finished.result(10)
    assert 15 <= ran[:100].count("row") <= 30


def test_a_cancelled_queue_starts_no_more_units(make_pool: Callable[[int], WorkerPool]) -> None:
    ran: list[int] = []
    gate = threading.Event()

    def run(number: int) -> None:
        ran.append(number)
        gate.wait(60)

    queue = WorkQueue(units(50, run), interactive=True)
    make_pool(2).add(queue)
    wait_until(lambda: len(ran) == 2)
    queue.cancel()
    gate.set()
    queue.finished.result(5)
    assert len(ran) == 2
    idle = WorkQueue(units(5, run), interactive=True)
    idle.cancel()
    idle.finished.result(0)
