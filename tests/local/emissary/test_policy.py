"""When deployments and engines are put to sleep."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_lamini.local.emissary.policy import ActiveHours, ResourcePolicy


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-27T07:59", False),  # a Friday; Berlin is an hour ahead
        ("2026-11-27T08:00", True),
        ("2026-11-27T16:59", True),
        ("2026-11-27T17:00", False),
        ("2026-11-28T12:00", False),
    ],
)
def test_a_schedule_is_open_on_its_days_in_its_time_zone(now, is_open):
    schedule = ActiveHours(timezone="Europe/Berlin", start_time="09:00", end_time="18:00", days=["friday"])
    assert schedule.is_open(at(now)) is is_open


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-27T21:59", False),
        ("2026-11-27T22:00", True),
        ("2026-11-28T05:59", True),
        ("2026-11-28T06:00", False),
        ("2026-11-27T05:00", False),
    ],
)
def test_a_schedule_may_end_on_the_next_day(now, is_open):
    schedule = ActiveHours(start_time="22:00", end_time="06:00", days=["friday"])
    assert schedule.is_open(at(now)) is is_open


def test_a_deployment_sleeps_after_the_last_request_or_activation():
    policy = ResourcePolicy(inactive_seconds=60)
    for active_since, accessed in ((100.0, 0.0), (0.0, 100.0)):
        asleep = [
            policy.is_asleep(active_since=active_since, accessed=accessed, woken=False, now=now)
            for now in (159.0, 160.0)
        ]
        assert asleep == [False, True]


def test_outside_of_its_schedule_a_deployment_is_awake_only_if_it_was_woken():
    policy = ResourcePolicy(inactive_seconds=60, schedule=ActiveHours(days=["friday"]))
    saturday = at("2026-11-28T12:00")
    for woken, seconds, asleep in ((False, 0, True), (True, 59, False), (True, 60, True)):
        assert (
            policy.is_asleep(active_since=saturday, accessed=0, woken=woken, now=saturday + seconds) is asleep
        )
    friday = at("2026-11-27T12:00")
    assert not policy.is_asleep(active_since=0, accessed=0, woken=False, now=friday)
