"""Polling decisions. They need no clock, no server and no sleeping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    BadRequestError,
    JobNotFoundError,
    NotFoundError,
    PlatformError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)
from airflow_provider_lamini.jobs.polling import (
    DeadlinePassed,
    Ended,
    Lost,
    PollAgain,
    PollPlan,
    decide_after_error,
    decide_after_status,
    first_poll,
)
from airflow_provider_lamini.jobs.state import JobState, JobStatus

START = 1_000_000.0
PLAN = PollPlan(submitted_at=START, deadline=START + 3600, max_interval=30)


def status(state: JobState) -> JobStatus:
    return JobStatus("7", state, state.value)


@pytest.mark.parametrize("state", [state for state in JobState if state.ended])
def test_every_end_counts_even_past_the_deadline(state):
    assert decide_after_status(PLAN, status(state), START + 9999, 0.5) == Ended(status(state))


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.INACTIVE, JobState.UNKNOWN])
def test_a_job_that_has_not_ended_is_polled_again_until_the_deadline(state):
    assert isinstance(decide_after_status(PLAN, status(state), START + 10, 0.5), PollAgain)
    assert decide_after_status(PLAN, status(state), START + 3600, 0.5) == DeadlinePassed()


def test_recently_submitted_jobs_are_polled_more_often():
    pauses = [
        decide_after_status(PLAN, status(JobState.RUNNING), START + age, 0.5).seconds
        for age in (0, 20, 100, 3000)
    ]
    assert pauses == [0.5, pytest.approx(1.6), pytest.approx(8), 30]


def test_jitter_spreads_jobs_that_were_submitted_together():
    running = status(JobState.RUNNING)
    assert decide_after_status(PLAN, running, START + 100, 0.0).seconds == pytest.approx(6.4)
    assert decide_after_status(PLAN, running, START + 100, 1.0).seconds == pytest.approx(9.6)


def test_jitter_makes_no_pause_longer_than_the_interval():
    running = status(JobState.RUNNING)
    assert decide_after_status(PLAN, running, START + 1000, 0.0).seconds == pytest.approx(24)
    assert decide_after_status(PLAN, running, START + 1000, 1.0).seconds == 30


@given(now=st.floats(START - 1e6, START + 1e6), jitter=st.floats(0, 1))
def test_no_pause_is_negative_or_passes_the_deadline_even_if_the_clock_jumps(now, jitter):
    decision = decide_after_status(PLAN, status(JobState.RUNNING), now, jitter)
    if isinstance(decision, PollAgain):
        assert 0 <= decision.seconds <= max(0.0, PLAN.deadline - now)
    else:
        assert now >= PLAN.deadline


@pytest.mark.parametrize("error", [UnavailableError("x"), ProtocolError("x"), RateLimitedError("x")])
def test_an_outage_is_tolerated_until_the_deadline(error):
    assert isinstance(decide_after_error(PLAN, error, 500, START + 3000, 0.5), PollAgain)
    assert decide_after_error(PLAN, error, 501, START + 3600, 0.5) == DeadlinePassed()


def test_errors_in_a_row_make_polls_less_frequent_up_to_the_interval():
    pauses = [
        decide_after_error(PLAN, UnavailableError("x"), errors, START, 0.5).seconds for errors in (1, 2, 3, 9)
    ]
    assert pauses == [2, 4, 8, 30]


def test_the_platform_may_ask_for_a_longer_pause():
    error = RateLimitedError("x", retry_after=120)
    assert decide_after_error(PLAN, error, 1, START, 0.5) == PollAgain(120)


def test_the_platform_cannot_ask_for_a_pause_of_hours():
    error = UnavailableError("x", retry_after=86_400)
    assert decide_after_error(PLAN, error, 1, START, 0.5) == PollAgain(300)


@pytest.mark.parametrize("kind", [JobNotFoundError, NotFoundError])
def test_not_found_is_not_final_right_after_the_submission_but_later_it_is(kind):
    error = kind("x")
    assert isinstance(decide_after_error(PLAN, error, 1, START + 5, 0.5), PollAgain)
    assert decide_after_error(PLAN, error, 1, START + 61, 0.5) == Lost(error)


def test_a_refused_key_gets_two_more_tries_because_keys_are_rotated():
    error = AuthenticationError("x")
    assert isinstance(decide_after_error(PLAN, error, 2, START + 100, 0.5), PollAgain)
    assert decide_after_error(PLAN, error, 3, START + 100, 0.5) == Lost(error)


@pytest.mark.parametrize("error", [BadRequestError("x"), PlatformError("x")])
def test_any_other_refusal_loses_the_job(error):
    assert decide_after_error(PLAN, error, 1, START + 5, 0.5) == Lost(error)


def test_a_wait_that_starts_after_the_deadline_polls_once():
    assert first_poll(PLAN, START + 5000, 0.5) == PollAgain(0.0)


def test_a_clock_that_was_set_back_neither_loses_a_job_nor_polls_it_constantly():
    """By that clock, the job will be submitted hours from now."""
    earlier = START - 5 * 3600
    missing = decide_after_error(PLAN, JobNotFoundError("gone"), 1, earlier, 0.5)
    assert missing == PollAgain(30)
    assert decide_after_status(PLAN, status(JobState.RUNNING), earlier, 0.5) == PollAgain(30)


def test_clocks_that_differ_slightly_do_not_lose_a_new_job():
    assert isinstance(decide_after_error(PLAN, JobNotFoundError("not yet"), 1, START - 2, 0.5), PollAgain)
    assert decide_after_status(PLAN, status(JobState.RUNNING), START - 2, 0.5) == PollAgain(0.5)


def test_a_clock_that_was_set_forward_ends_the_wait_after_one_poll():
    later = START + 5 * 3600
    assert first_poll(PLAN, later, 0.5) == PollAgain(0.0)
    ended = status(JobState.SUCCEEDED)
    assert decide_after_status(PLAN, ended, later, 0.5) == Ended(ended)
    assert decide_after_status(PLAN, status(JobState.RUNNING), later, 0.5) == DeadlinePassed()
