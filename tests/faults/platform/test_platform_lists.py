"""Jobs that the platform no longer knows, and wrong lists of jobs."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.triggers.job import JobTrigger
from tests.support.fault_cases import KINDS, TASK, is_correct, maker
from tests.support.faulty_platform import Fault, faulty_platform
from tests.support.tasks import begin, first_event, load_trigger, resume, run_to_end

pytestmark = pytest.mark.long

WAITING = [kind for kind in KINDS if KINDS[kind].polls]
LISTS = {
    "reversed": lambda jobs, _: jobs[::-1],
    "each twice": lambda jobs, _: jobs + jobs,
    "one left out": lambda jobs, _: jobs[1:],
    "none": lambda _, __: [],
    "others among them": lambda jobs, _: [{"job_id": 99, "status": "FAILED"}, *jobs],
}


@pytest.fixture
def platform(monkeypatch):
    """A platform; ``lamini_default`` connects to it."""
    with faulty_platform() as serving:
        fields = {"conn_type": "lamini", "host": serving.url, "password": serving.key}
        monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))
        serving.script = [("CREATED", "TRAINING MODEL", "COMPLETED")]
        yield serving


@pytest.fixture
def task(platform, tmp_path):
    """Returns a function that creates an operator factory of a kind of task. A dataset exists."""
    platform.datasets["given"] = [{"input": "a", "output": "b"}]
    return lambda kind: maker(kind, tmp_path, "lamini_default")


@pytest.mark.parametrize("kind", WAITING)
def test_a_job_that_vanished_after_its_first_minute_is_submitted_again(platform, task, kind, tmp_path):
    make, before = task(kind)(), platform.started
    deferral = begin(make)
    platform.forgets_jobs = True
    event = deferral.wait(submitted_at=time.time() - 600)
    assert [lost["vanished"] for lost in event["lost"].values()] == [True]
    platform.clear_faults()
    if kind in ("batch", "vectors"):
        with pytest.raises(TaskDeferred):
            resume(make, deferral, event)
    else:
        with pytest.raises(JobLostError, match=r"no longer knows the .*A retry submits a new job"):
            resume(make, deferral, event)
    assert is_correct(kind, run_to_end(make, TASK).result, tmp_path)
    assert platform.started - before == 2


@pytest.mark.parametrize("kind", WAITING)
def test_a_job_that_vanished_while_the_worker_waits_is_reported(platform, task, kind, tmp_path):
    """The task attaches to an old job and waits for it in the worker."""
    begin(task(kind)())
    platform.forgets_jobs = True
    _age(tmp_path, 600)
    operator = task(kind)(
        deferrable=False, **({"on_unknown_submission": "fail"} if kind in ("batch", "vectors") else {})
    )
    with pytest.raises(JobLostError, match=r"no longer knows"):
        run_to_end(operator, TASK)
    assert platform.started - 1 == 1


def _age(folder, seconds):
    """Make all recorded submissions below a folder look older."""
    aged = 0
    for path in [*folder.glob("state/*.json"), *folder.glob("out/_ledger.json")]:
        record = json.loads(path.read_text())
        submissions = [each for chunk in record.get("open", []) for each in chunk["rounds"]] or [record]
        for submission in submissions:
            submission["submitted_at"] -= seconds
            aged += 1
        path.write_text(json.dumps(record))
    assert aged == 1


@pytest.mark.parametrize("change", LISTS.values(), ids=LISTS)
def test_the_ends_of_jobs_are_found_whatever_the_list_contains(platform, task, change):
    ids = []
    for number in range(7):
        platform.script = [("TRAINING MODEL", "FAILED" if number == 3 else "COMPLETED")]
        operator = task("train")(wait=False, force_new=True)
        ids.append(run_to_end(operator, TASK).result["job_id"])
    for job in platform.jobs.values():
        job.states = job.states[-1:]
    platform.inject("GET /v1/train/jobs", Fault(times=None, change=change))
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
    """Return the event of a trigger as the task receives it."""
    return asyncio.run(asyncio.wait_for(first_event(load_trigger(*trigger.serialize())), 30))


@pytest.mark.parametrize(
    ("kind", "lists"),
    [
        ("train", ["GET /v1/train/jobs"]),
        ("classifier", ["GET /v2/classifier/mail/jobs", "GET /v2/classifier/mail/models"]),
    ],
)
def test_a_lost_submission_is_found_in_a_list_that_contains_it_twice(platform, task, kind, lists, tmp_path):
    platform.names_models = False  # so that the task reads the list of models
    before = platform.started
    platform.inject(KINDS[kind].submits, Fault(drop=True, after=True))
    for path in lists:
        platform.inject(path, Fault(times=None, change=LISTS["each twice"]))
    with pytest.raises(UnavailableError, match="may run and bill"):
        run_to_end(task(kind)(), TASK)
    assert is_correct(kind, run_to_end(task(kind)(), TASK).result, tmp_path)
    assert platform.started - before == 1
