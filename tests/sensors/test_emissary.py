"""The sensor waits for any kind of job on Emissary, and until something is active or parked."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError
from airflow_provider_lamini.sensors.emissary import EmissaryJobSensor
from tests.support.emissary_platform import emissary  # noqa: F401 - a fixture
from tests.support.tasks import maker, run_to_end

sensor = maker(
    EmissaryJobSensor, task_id="wait", poke_interval=0.5, timeout=20, deferrable=True, mode="reschedule"
)


@pytest.mark.parametrize(
    ("kind", "states", "status"),
    [
        ("training", ("Running", "Success"), "Success"),
        ("dataset", ("uploading", "uploaded"), "uploaded"),
        ("deployment", ("Deactivated", "Reactivating", "Deployed"), "Deployed"),
        ("engine", ("Inactive", "Active"), "Active"),
        ("parked_deployment", ("Deployed", "Deactivated"), "Deactivated"),
        ("parked_engine", ("Active", "Inactive"), "Inactive"),
    ],
)
def test_any_kind_is_waited_for(emissary, kind, states, status):  # noqa: F811
    item = emissary.new(kind.removeprefix("parked_"), states)
    job_id = item.id if kind.endswith("engine") else f"ms-1/{item.id}"
    ended = run_to_end(sensor(job_id=job_id, kind=kind))
    assert ended.result == {"job_id": job_id, "kind": kind, "state": "succeeded", "status": status}
    assert len(ended.deferrals) == 1


def test_a_failed_job_fails_the_sensor(emissary):  # noqa: F811
    emissary.new("training", ("Failed",))
    with pytest.raises(JobFailedError, match="ms-1/tr-1 ended as Failed"):
        run_to_end(sensor(job_id="ms-1/tr-1"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"job_id": "tr-1"},
        {"job_id": "ms-1/tr-1", "kind": "engine"},
        {"job_id": "ms-1/tr-1", "kind": "tuning"},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InvalidArgumentError, match=r"job_id must be|kind must be one of training"):
        run_to_end(sensor(**arguments))
