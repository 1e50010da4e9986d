from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.state import JobState


def test_an_event_survives_the_way_through_the_database():
    event = JobEvent(
        ended={"7": EndedJob(JobState.FAILED, "FAILED", "out of memory")},
        lost={"8": LostJob("gone", vanished=True)},
        timed_out=True,
        deadline=12.5,
        trouble="the platform is away",
    )
    assert JobEvent.from_payload(json.loads(json.dumps(event.payload()))) == event


def test_an_event_of_the_version_before_tells_no_trouble():
    """A trigger of an older release may still be in the database."""
    payload = {name: value for name, value in JobEvent(deadline=12.5).payload().items() if name != "trouble"}
    assert JobEvent.from_payload(payload).trouble is None


@pytest.mark.parametrize("payload", [None, {}, {"status": "success"}, {"version": 2}, "done"])
def test_what_is_no_event_is_refused(payload):
    with pytest.raises(ValueError, match="Clear the task"):
        JobEvent.from_payload(payload)
