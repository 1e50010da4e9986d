"""Who is let in together, and who waits for how long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.turns import Turns
from tests.support.local_platform import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Visitors:
    """Threads that come one after the other, and stay inside until they are told to leave."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.inside: list[str] = []
        self._leave: dict[str, threading.Event] = {}
        self._threads = ThreadPoolExecutor(20)

    def come(self, *names: str) -> None:
        """Let them come; the first letter is the kind. Returns when each is inside or waits."""
        for name in names:
            known = len(self.inside) + self._waiting
            self._leave[name] = threading.Event()
            self._threads.submit(self._visit, name)
            wait_until(lambda known=known: len(self.inside) + self._waiting == known + 1)

    def leave(self, *names: str) -> None:
        """Let them leave."""
        for name in names:
            self._leave[name].set()
        wait_until(lambda: not set(names) & set(self.inside))

    def close(self) -> None:
        """Let all leave, and those who still wait come and leave."""
        for event in self._leave.values():
            event.set()
        self._threads.shutdown()

    @property
    def _waiting(self) -> int:
        return sum(turn.requests for turn in tuple(self.turns._waiting.values()))

    def _visit(self, name: str) -> None:
        with self.turns.of(name[0]):
            self.inside.append(name)
            self._leave[name].wait(60)
            self.inside.remove(name)


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    with closing(Visitors()) as made:
        yield made


def test_those_of_one_kind_are_inside_together(visitors: Visitors) -> None:
    visitors.come("a1", "a2", "a3")
    assert visitors.inside == ["a1", "a2", "a3"]


def test_another_kind_waits_until_all_have_left(visitors: Visitors) -> None:
    visitors.come("a1", "a2", "b1", "b2")
    visitors.leave("a1")
    assert visitors.inside == ["a2"]
    visitors.leave("a2")
    wait_until(lambda: sorted(visitors.inside) == ["b1", "b2"])


def test_who_comes_after_another_kind_waits_behind_it(visitors: Visitors) -> None:
    visitors.come("a1", "b1", "a2", "c1", "b2")
    assert visitors.inside == ["a1"]
    visitors.leave("a1")
    wait_until(lambda: sorted(visitors.inside) == ["b1", "b2"])
    visitors.leave("b1", "b2")
    wait_until(lambda: visitors.inside == ["a2"])
    visitors.leave("a2")
    wait_until(lambda: visitors.inside == ["c1"])


def test_who_fails_inside_leaves() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns.of("a"):
        raise KeyError
    with turns.of("b"):
        pass


def test_many_threads_of_three_kinds_never_meet_another_kind() -> None:
    turns, inside, lock = Turns(), list[int](), threading.Lock()

    def visit(number: int) -> bool:
        with turns.of(number % 3):
            with lock:
                inside.append(number % 3)
                alone = len(set(inside)) == 1
            with lock:
                inside.remove(number % 3)
        return alone

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(visit, range(3000)))
    assert not inside
