"""The status that each kind of Emissary job has for each response."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.jobs.polling import Ended, PollAgain, PollPlan, decide_after_status
from airflow_provider_lamini.jobs.state import JobProgress, JobState, PollHistory, ProgressUnit
from airflow_provider_lamini.jobs.watch import Watch
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from tests.support.emissary_platform import EmissaryPlatform
from tests.support.scripted_platform import serving

PLAN = PollPlan(submitted_at=0, deadline=1000)


def status_of(kind, body, job_id="ms-1/tr-1"):
    return job_kind(f"emissary/{kind}").status(job_id).parse(json.dumps(body).encode())


def listed(kind, scope, body, job_ids):
    call = job_kind(f"emissary/{kind}").list_statuses(scope, job_ids)
    return call.path, call.parse(json.dumps(body).encode()).statuses


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Pending", JobState.QUEUED),
        ("Running", JobState.RUNNING),
        ("Testing", JobState.RUNNING),
        ("Success", JobState.SUCCEEDED),
        ("Failed", JobState.FAILED),
        ("TimedOut", JobState.TIMED_OUT),
        ("TIMED_OUT", JobState.TIMED_OUT),
        ("Cancelled", JobState.CANCELLED),
        ("Brand New", JobState.UNKNOWN),
    ],
)
def test_a_training_job_has_the_state_of_the_status_word(word, state):
    status = status_of("training", {"id": "tr-1", "status": word})
    assert (status.job_id, status.state, status.raw) == ("ms-1/tr-1", state, word)


def test_a_training_job_has_its_progress_in_percent_and_its_last_loss():
    curve = [{"timestamp": 1, "loss": 2.5}, {"timestamp": 2, "loss": 1.23456}, {"timestamp": 3, "loss": None}]
    status = status_of(
        "training", {"id": "tr-1", "status": "Running", "progress": 75, "training_loss": curve}
    )
    assert status.progress == JobProgress(75, ProgressUnit.PERCENT)
    assert (str(status.progress), status.detail) == ("75%", "loss 1.235")


@pytest.mark.parametrize(
    ("word", "deployment", "created", "parked"),
    [
        ("Pending", "wait", "wait", "wait"),
        ("Deploying", "wait", "wait", "wait"),
        ("Reactivating", "wait", "wait", "wait"),
        ("Deployed", "succeeded", "succeeded", "wait"),
        ("Deactivated", "wait", "succeeded", "succeeded"),
        ("Failed", "failed", "failed", "failed"),
        ("Terminated", "failed", "failed", "failed"),
        ("Cancelled", "cancelled", "cancelled", "cancelled"),
        ("TimedOut", "timed out", "timed out", "timed out"),
    ],
)
def test_a_wait_for_a_deployment_ends_in_the_state_that_its_kind_waits_for(word, deployment, created, parked):
    kinds = {"deployment": deployment, "created_deployment": created, "parked_deployment": parked}
    for kind, end in kinds.items():
        status = status_of(kind, {"id": "dp-1", "status": word}, "ms-1/dp-1")
        decision = decide_after_status(PLAN, status, 10, 0.5)
        assert isinstance(decision, PollAgain if end == "wait" else Ended), kind
        assert end in ("wait", status.state.value)


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("Creating", set()),
        ("Active", {"engine", "created_engine"}),
        ("Inactive", {"created_engine", "parked_engine"}),
    ],
)
def test_a_wait_for_an_engine_ends_in_the_state_that_its_kind_waits_for(word, ends):
    for kind in ("engine", "created_engine", "parked_engine"):
        status = status_of(kind, {"id": "engine-1", "status": word}, "engine-1")
        assert (status.state is JobState.SUCCEEDED) == (kind in ends)
        assert status.state.ended == (kind in ends)


def test_a_parked_deployment_is_inactive():
    assert (
        status_of("deployment", {"id": "dp-1", "status": "Deactivated"}, "ms-1/dp-1").state
        is JobState.INACTIVE
    )


def test_the_list_of_a_project_answers_for_its_jobs():
    body = [
        {"id": "tr-1", "status": "Running", "progress": 10},
        {"id": "tr-2", "status": "Success", "progress": 100, "reward": {"old": None}},
        {"id": "tr-3", "status": None},
        {"id": {}, "status": "Failed"},
        {"id": "tr-4", "status": "Failed"},
    ]
    path, found = listed("training", "ms-1", body, ["ms-1/tr-1", "ms-1/tr-2", "ms-1/tr-3", "ms-1/tr-9"])
    assert path == "/v1/projects/ms-1/training-jobs"
    assert {job: (status.job_id, status.state) for job, status in found.items()} == {
        "ms-1/tr-1": ("ms-1/tr-1", JobState.RUNNING),
        "ms-1/tr-2": ("ms-1/tr-2", JobState.SUCCEEDED),
    }
    assert found["ms-1/tr-1"].progress == JobProgress(10, ProgressUnit.PERCENT)


def test_the_lists_of_deployments_and_engines_answer_for_theirs():
    deployments = [{"id": "dp-1", "status": "Deployed"}]
    path, found = listed("deployment", "ms-1", deployments, ["ms-1/dp-1"])
    assert (path, found["ms-1/dp-1"].state) == ("/v1/projects/ms-1/deployments", JobState.SUCCEEDED)
    engines = [{"id": "engine-1", "status": "Active"}]
    path, found = listed("engine", "", engines, ["engine-1"])
    assert (path, found["engine-1"].state) == ("/v1/engines", JobState.SUCCEEDED)


@pytest.mark.long
def test_one_list_answers_for_waits_for_different_states():
    """Some wait until deployments are active, others until they are parked."""
    platform = EmissaryPlatform()
    for _ in range(10):
        platform.new("deployment", ("Deactivated",))
    old = PollPlan(submitted_at=time.time() - 9000, deadline=time.time() + 60, max_interval=0.5)

    async def scenario():
        async def lookup():
            return ClientSettings(dialect=EMISSARY_DIALECT, base_url=platform.url, key=platform.key)

        watch = Watch(lookup)
        kinds = [job_kind(f"emissary/{name}deployment") for name in ("", "created_", "parked_")]
        waits = [
            watch.add(kind, f"ms-1/{item}", old, PollHistory())
            for item in platform.deployments
            for kind in kinds
        ]
        done, pending = await asyncio.wait(waits, timeout=5, return_when=asyncio.ALL_COMPLETED)
        assert (len(done), len(pending)) == (20, 10)
        for item in platform.deployments.values():
            item.states = ["Deployed"]
        await asyncio.wait_for(asyncio.gather(*pending), 10)
        await watch.close()

    with serving(platform):
        asyncio.run(scenario())
    assert set(platform.request_counts) == {"GET /v1/projects/ms-1/deployments"}
    assert platform.request_counts.total() < 20


@pytest.mark.parametrize("body", [{"error": "hm"}, "text", None])
def test_something_else_than_a_list_is_refused(body):
    with pytest.raises(ValueError, match="array"):
        listed("training", "ms-1", body, ["ms-1/tr-1"])


def test_a_job_belongs_to_the_list_of_its_project():
    for kind in ("training", "deployment", "created_deployment", "parked_deployment"):
        assert job_kind(f"emissary/{kind}").scope_of("ms-7/x-1") == "ms-7"
    assert job_kind("emissary/engine").scope_of("engine-1") == ""


@pytest.mark.parametrize("job_id", ["tr-1", "/tr-1", "ms-1/", "a/b/c", ""])
def test_an_id_that_does_not_tell_its_project_is_refused(job_id):
    with pytest.raises(ValueError, match="project/id, such as ms-12345/tr-12345"):
        job_kind("emissary/training").status(job_id)


def test_only_training_jobs_can_be_cancelled():
    assert (
        job_kind("emissary/training").cancel("ms-1/tr-1").path
        == "/v1/projects/ms-1/training-jobs/tr-1/cancel"
    )
    assert job_kind("emissary/deployment").cancel is None
    assert job_kind("emissary/engine").cancel is None
