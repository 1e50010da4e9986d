"""Jobs that the platform forgets, and lists of jobs that are not as they should be."""

from __future__ import annotations

import json
import time

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.triggers.job import JobTrigger
from tests.support.fault_ways import TASK, WAYS, is_good, maker
from tests.support.faulty_platform import Fault, faulty_platform
from tests.support.tasks import begin, made, run_to_end, wake

pytestmark = pytest.mark.long

WAITING = [way for way in WAYS if WAYS[way].looks]
LISTS = {
    "reversed": lambda jobs, _: jobs[::-1],
    "each twice": lambda jobs, _: jobs + jobs,
    "one left out": lambda jobs, _: jobs[1:],
    "none": lambda _, __: [],
    "others among them": lambda jobs, _: [{"job_id": 99, "status": "FAILED"}, *jobs],
}


@pytest.fixture
def platform(monkeypatch):
    """A platform; ``lamini_default`` leads to it."""
    with faulty_platform() as serving:
        fields = {"conn_type": "lamini", "host": serving.url, "password": serving.key}
        monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))
        serving.script = [("CREATED", "TRAINING MODEL", "COMPLETED")]
        yield serving


@pytest.fixture
def task(platform, tmp_path):
    """Returns a function that makes a way's operator anew; a dataset is there."""
    platform.datasets["given"] = [{"input": "a", "output": "b"}]
    return lambda way: maker(way, tmp_path, "lamini_default")


@pytest.mark.parametrize("way", WAITING)
def test_a_job_that_vanished_after_its_first_minute_is_submitted_once_more(platform, task, way, tmp_path):
    make, before = task(way)(), platform.started
    deferral = begin(make)
    platform.forgets = True
    event = deferral.wait(submitted_at=time.time() - 600)
    assert [lost["vanished"] for lost in event["lost"].values()] == [True]
    platform.go_right()
    if way in ("batch", "vectors"):
        with pytest.raises(TaskDeferred):
            wake(make, deferral, event)
    else:
        with pytest.raises(JobLostError, match=r"cannot be looked at any more.*A retry submits it anew"):
            wake(make, deferral, event)
    assert is_good(way, run_to_end(make, TASK).result, tmp_path)
    assert platform.started - before == 2


@pytest.mark.parametrize("way", WAITING)
def test_a_job_that_vanished_while_the_worker_waits_is_told_likewise(platform, task, way, tmp_path):
    """A try that attaches to an old job waits for it in the worker."""
    begin(task(way)())
    platform.forgets = True
    _age(tmp_path, 600)
    operator = task(way)(
        deferrable=False, **({"on_unknown_submission": "fail"} if way in ("batch", "vectors") else {})
    )
    with pytest.raises(JobLostError, match=r"cannot be looked at any more|no longer knows job"):
        run_to_end(operator, TASK)
    assert platform.started - 1 == 1


def _age(folder, seconds):
    """Let all submissions that are recorded below a folder be older than they are."""
    aged = 0
    for path in [*folder.glob("state/*.json"), *folder.glob("out/_ledger.json")]:
        record = json.loads(path.read_text())
        found = [once for chunk in record.get("open", []) for once in chunk["rounds"]] or [record]
        for once in found:
            once["submitted_at"] -= seconds
            aged += 1
        path.write_text(json.dumps(record))
    assert aged == 1


@pytest.mark.parametrize("change", LISTS.values(), ids=LISTS)
def test_jobs_are_seen_to_end_whatever_the_list_of_jobs_looks_like(platform, task, change):
    ids = []
    for number in range(7):
        platform.script = [("TRAINING MODEL", "FAILED" if number == 3 else "COMPLETED")]
        operator = task("train")(wait=False, force_new=True)
        ids.append(run_to_end(operator, TASK).result["job_id"])
    for job in platform.jobs.values():
        job.states = job.states[-1:]
    platform.go_wrong("GET /v1/train/jobs", Fault(times=None, change=change))
    trigger = JobTrigger(
        conn_id="lamini_default",
        kind="lamini/tuning",
        job_ids=ids,
        submitted_at=time.time(),
        deadline=time.time() + 30,
        poll_interval=0.5,
        min_ended=7,
    )
    event = _event(trigger)
    states = {job_id: job["state"] for job_id, job in event["ended"].items()}
    assert states == {job_id: "failed" if number == 3 else "succeeded" for number, job_id in enumerate(ids)}


def _event(trigger):
    """The event of a trigger, as the task gets it."""
    import asyncio

    from tests.support.tasks import first_event

    return asyncio.run(asyncio.wait_for(first_event(made(*trigger.serialize())), 30))


@pytest.mark.parametrize(
    ("way", "lists"),
    [
        ("train", ["GET /v1/train/jobs"]),
        ("classifier", ["GET /v2/classifier/mail/jobs", "GET /v2/classifier/mail/models"]),
    ],
)
def test_a_lost_submission_is_found_in_a_list_that_names_it_twice(platform, task, way, lists, tmp_path):
    platform.names_models = False  # so that the list of models is asked
    before = platform.started
    platform.go_wrong(WAYS[way].submits, Fault(drop=True, after=True))
    for path in lists:
        platform.go_wrong(path, Fault(times=None, change=LISTS["each twice"]))
    with pytest.raises(UnavailableError, match="may run and bill"):
        run_to_end(task(way)(), TASK)
    assert is_good(way, run_to_end(task(way)(), TASK).result, tmp_path)
    assert platform.started - before == 1
