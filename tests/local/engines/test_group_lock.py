"""Tests for the group lock: who holds it together, and who waits for how long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.group_lock import GroupLock
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Threads:
    """Threads that acquire a lock one after the other, and hold it until they are told to release it."""

    def __init__(self) -> None:
        self.lock = GroupLock()
        self.holders: list[str] = []
        self._released: dict[str, threading.Event] = {}
        self._threads = ThreadPoolExecutor(20)

    def acquire(self, *names: str) -> None:
        """Start threads; the first letter of a name is its group. Return when each holds the lock or waits for it."""
        for name in names:
            before = len(self.holders) + self._waiting
            self._released[name] = threading.Event()
            self._threads.submit(self._run, name)
            wait_until(lambda before=before: len(self.holders) + self._waiting == before + 1)

    def release(self, *names: str) -> None:
        """Let threads release the lock."""
        for name in names:
            self._released[name].set()
        wait_until(lambda: not set(names) & set(self.holders))

    def close(self) -> None:
        """Let all threads acquire and release the lock, and wait for them to end."""
        for event in self._released.values():
            event.set()
        self._threads.shutdown()

    @property
    def _waiting(self) -> int:
        return sum(group.threads for group in tuple(self.lock._waiting.values()))

    def _run(self, name: str) -> None:
        with self.lock.hold(name[0]):
            self.holders.append(name)
            self._released[name].wait(60)
            self.holders.remove(name)


@pytest.fixture
def threads() -> Iterator[Threads]:
    with closing(Threads()) as threads:
        yield threads


def test_threads_of_one_group_hold_the_lock_together(threads: Threads) -> None:
    threads.acquire("a1", "a2", "a3")
    assert threads.holders == ["a1", "a2", "a3"]


def test_another_group_waits_until_all_holders_have_released_the_lock(threads: Threads) -> None:
    threads.acquire("a1", "a2", "b1", "b2")
    threads.release("a1")
    assert threads.holders == ["a2"]
    threads.release("a2")
    wait_until(lambda: sorted(threads.holders) == ["b1", "b2"])


def test_a_thread_that_arrives_after_another_group_waits_behind_it(threads: Threads) -> None:
    threads.acquire("a1", "b1", "a2", "c1", "b2")
    assert threads.holders == ["a1"]
    threads.release("a1")
    wait_until(lambda: sorted(threads.holders) == ["b1", "b2"])
    threads.release("b1", "b2")
    wait_until(lambda: threads.holders == ["a2"])
    threads.release("a2")
    wait_until(lambda: threads.holders == ["c1"])


def test_an_exception_releases_the_lock() -> None:
    lock = GroupLock()
    with pytest.raises(KeyError), lock.hold("a"):
        raise KeyError
    with lock.hold("b"):
        pass


def test_threads_of_different_groups_never_hold_the_lock_together() -> None:
    group_lock, holders, lock = GroupLock(), list[int](), threading.Lock()

    def run(number: int) -> bool:
        with group_lock.hold(number % 3):
            with lock:
                holders.append(number % 3)
                is_one_group = len(set(holders)) == 1
            with lock:
                holders.remove(number % 3)
        return is_one_group

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(run, range(3000)))
    assert not holders
