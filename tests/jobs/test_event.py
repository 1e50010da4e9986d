"""The event that a trigger sends to its task."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.state import FailureCause, JobState


def test_an_event_survives_serialization():
    event = JobEvent(
        ended={"7": EndedJob(JobState.FAILED, "FAILED", "out of memory")},
        lost={"8": LostJob("gone", vanished=True), "9": LostJob("401", vanished=False, refused=True)},
        timed_out=True,
        deadline=12.5,
        last_error="the platform is not available",
        summary="Waited 5 s.",
    )
    found = JobEvent.from_payload(json.loads(json.dumps(event.payload())))
    assert found == event
    assert found.summary == "Waited 5 s."


def test_the_cause_of_a_failure_is_in_an_event_only_if_it_is_known():
    """A worker of an older release does not know it."""
    known, unknown = (
        EndedJob(JobState.FAILED, "failed", cause=cause) for cause in (FailureCause.INPUT, None)
    )
    payload = JobEvent(ended={"7": known, "8": unknown}, deadline=1.0).payload()
    assert payload["ended"]["7"]["cause"] == "input"
    assert "cause" not in payload["ended"]["8"]
    assert JobEvent.from_payload(json.loads(json.dumps(payload))).ended == {"7": known, "8": unknown}


def test_an_event_without_the_last_error_can_be_read():
    """A trigger of an older release may still be in the database."""
    payload = {
        name: value for name, value in JobEvent(deadline=12.5).payload().items() if name != "last_error"
    }
    event = JobEvent.from_payload(payload)
    assert (event.last_error, event.summary) == (None, None)


@pytest.mark.parametrize("payload", [None, {}, {"status": "success"}, {"version": "1"}, "done"])
def test_a_payload_that_is_not_an_event_is_refused(payload):
    with pytest.raises(ValueError, match="Clear the task"):
        JobEvent.from_payload(payload)


def test_an_event_of_a_newer_version_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"event of version 2.*reads version 1.*Update the worker"):
        JobEvent.from_payload({**JobEvent(deadline=1.0).payload(), "version": 2})
