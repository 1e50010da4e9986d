"""One list or many looks: decided from how long the list was."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.jobs.schedule import (
    BYTES_OF_ONE_LOOK,
    LIST_FROM,
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    WITHOUT_LIST,
    ListPolicy,
    PollMode,
)


def after_a_list(looks: int) -> ListPolicy:
    """As after a list that took as long as so many looks, asked for at 0 s."""
    rounds = ListPolicy()
    rounds.list_begins()
    rounds.list_over(0.0, looks * BYTES_OF_ONE_LOOK, by_itself=False)
    return rounds


def test_a_few_jobs_are_asked_for_one_by_one():
    assert ListPolicy().way(LIST_FROM - 1, LIST_FROM - 1, 0.0) is PollMode.EACH


def test_many_jobs_are_asked_for_with_a_list():
    assert ListPolicy().way(LIST_FROM, LIST_FROM, 0.0) is PollMode.LIST


def test_a_long_list_is_not_asked_for_on_account_of_some_jobs():
    rounds = after_a_list(looks=400)
    for second in range(100, 1000, 30):
        assert rounds.way(100, 100, float(second)) is PollMode.EACH
        rounds.asked_each(100)


def test_a_list_pays_once_single_looks_have_cost_as_much():
    rounds = after_a_list(looks=40)
    assert rounds.way(20, 1000, 100.0) is PollMode.EACH
    rounds.asked_each(20)
    assert rounds.way(20, 1000, 101.0) is PollMode.LIST


@pytest.mark.parametrize(("looks", "pause"), [(1, SHORTEST_PAUSE), (100, 5.0), (10_000, LONGEST_PAUSE)])
def test_the_next_list_comes_as_late_as_the_last_one_was_long(looks, pause):
    rounds = after_a_list(looks)
    assert rounds.way(20_000, 20_000, pause - 0.01) is PollMode.LATER
    assert rounds.way(20_000, 20_000, pause + 0.01) is PollMode.LIST


def test_who_comes_while_others_wait_for_the_list_waits_with_them():
    rounds = after_a_list(looks=100)
    assert rounds.way(100, 10_000, 1.0) is PollMode.LATER
    assert rounds.way(3, 10_000, 2.0) is PollMode.LATER
    assert rounds.way(3, 10_000, 6.0) is PollMode.LIST


def test_there_is_one_list_at_a_time():
    rounds = ListPolicy()
    assert rounds.way(10, 10, 0.0) is PollMode.LIST
    rounds.list_begins()
    assert rounds.way(10, 10, 50.0) is PollMode.LATER


def test_after_a_list_that_failed_by_itself_each_job_is_asked_for_alone_for_some_time():
    rounds = ListPolicy()
    rounds.list_begins()
    rounds.list_over(0.0, None, by_itself=True)
    assert rounds.way(10_000, 10_000, WITHOUT_LIST - 1) is PollMode.EACH
    assert rounds.way(10_000, 10_000, WITHOUT_LIST + 1) is PollMode.LIST
