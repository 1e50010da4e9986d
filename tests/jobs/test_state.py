"""States behind Lamini's status words."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.lamini.kinds import state_of


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CREATED", JobState.QUEUED),
        ("SCHEDULED", JobState.QUEUED),
        ("QUEUED", JobState.QUEUED),
        ("LOADING DATA", JobState.RUNNING),
        ("TRAINING_MODEL", JobState.RUNNING),
        ("evaluating_model", JobState.RUNNING),
        ("Saving Model", JobState.RUNNING),
        ("completed", JobState.SUCCEEDED),
        ("available", JobState.SUCCEEDED),
        ("PARTIALLY COMPLETED", JobState.PARTLY_SUCCEEDED),
        ("FAILED", JobState.FAILED),
        ("CANCELED", JobState.CANCELLED),
        ("CANCELLED", JobState.CANCELLED),
        ("timed_out", JobState.TIMED_OUT),
        ("REWINDING", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_each_status_word_has_its_state_in_any_spelling(word, state):
    assert state_of(word) is state


@pytest.mark.parametrize("state", [JobState.UNKNOWN, JobState.INACTIVE])
def test_unknown_and_inactive_are_not_ends(state):
    assert not state.ended
