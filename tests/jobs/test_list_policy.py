"""One list call or many individual polls: decided by the size of the list."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.jobs.schedule import (
    BYTES_PER_POLL,
    LIST_RETRY_AFTER,
    MAX_LIST_PAUSE,
    MIN_JOBS_FOR_LIST,
    MIN_LIST_PAUSE,
    ListPolicy,
    PollMode,
)


def after_list(cost: int) -> ListPolicy:
    """A policy after a list call at 0 s that cost as much as this many individual polls."""
    policy = ListPolicy()
    policy.list_started()
    policy.list_finished(0.0, cost * BYTES_PER_POLL, disable=False)
    return policy


def test_a_few_jobs_are_polled_individually():
    assert ListPolicy().choose(MIN_JOBS_FOR_LIST - 1, MIN_JOBS_FOR_LIST - 1, 0.0) is PollMode.INDIVIDUAL


def test_many_jobs_are_polled_with_a_list():
    assert ListPolicy().choose(MIN_JOBS_FOR_LIST, MIN_JOBS_FOR_LIST, 0.0) is PollMode.LIST


def test_a_long_list_is_not_requested_for_a_small_part_of_its_jobs():
    policy = after_list(cost=400)
    for second in range(100, 1000, 30):
        assert policy.choose(100, 100, float(second)) is PollMode.INDIVIDUAL
        policy.count_polls(100)


def test_a_list_pays_once_individual_polls_have_cost_as_much():
    policy = after_list(cost=40)
    assert policy.choose(20, 1000, 100.0) is PollMode.INDIVIDUAL
    policy.count_polls(20)
    assert policy.choose(20, 1000, 101.0) is PollMode.LIST


@pytest.mark.parametrize(("cost", "pause"), [(1, MIN_LIST_PAUSE), (100, 5.0), (10_000, MAX_LIST_PAUSE)])
def test_the_pause_after_a_list_grows_with_its_size(cost, pause):
    policy = after_list(cost)
    assert policy.choose(20_000, 20_000, pause - 0.01) is PollMode.WAIT_FOR_LIST
    assert policy.choose(20_000, 20_000, pause + 0.01) is PollMode.LIST


def test_a_job_that_becomes_due_while_others_wait_for_the_list_waits_with_them():
    policy = after_list(cost=100)
    assert policy.choose(100, 10_000, 1.0) is PollMode.WAIT_FOR_LIST
    assert policy.choose(3, 10_000, 2.0) is PollMode.WAIT_FOR_LIST
    assert policy.choose(3, 10_000, 6.0) is PollMode.LIST


def test_there_is_only_one_list_call_at_a_time():
    policy = ListPolicy()
    assert policy.choose(10, 10, 0.0) is PollMode.LIST
    policy.list_started()
    assert policy.choose(10, 10, 50.0) is PollMode.WAIT_FOR_LIST


def test_after_only_the_list_failed_jobs_are_polled_individually_for_some_time():
    policy = ListPolicy()
    policy.list_started()
    policy.list_finished(0.0, None, disable=True)
    assert policy.choose(10_000, 10_000, LIST_RETRY_AFTER - 1) is PollMode.INDIVIDUAL
    assert policy.choose(10_000, 10_000, LIST_RETRY_AFTER + 1) is PollMode.LIST
