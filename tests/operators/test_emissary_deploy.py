"""Deployments and engines on Emissary: provided once, woken, put to sleep, and removed."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_lamini.api.errors import BadRequestError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobFailedError,
    JobLostError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.emissary.activation import (
    EmissaryDeactivateEngineOperator,
    EmissaryReactivateOperator,
)
from airflow_provider_lamini.operators.emissary.deploy import EmissaryDeployOperator, EmissaryEngineOperator
from airflow_provider_lamini.operators.emissary.undeploy import (
    EmissaryDeleteOperator,
    EmissaryUndeployOperator,
)
from tests.support.tasks import TI, WAITING, begin, log_lines, maker, resume, run_to_end

pytestmark = pytest.mark.any_airflow

DEPLOYMENTS = "/v1/projects/ms-1/deployments"


class QuickDeploy(EmissaryDeployOperator):
    list_delay = 0.05


class QuickEngine(EmissaryEngineOperator):
    list_delay = 0.05


@pytest.fixture
def deploy(emissary, tmp_path):  # noqa: ARG001 - the connection points to it
    return maker(
        QuickDeploy,
        task_id="deploy",
        project_id="ms-1",
        training_job_id="tr-1",
        checkpoint=200,
        name="live",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.fixture
def engine(emissary, tmp_path):  # noqa: ARG001 - the connection points to it
    return maker(
        QuickEngine,
        task_id="engine",
        base_model="base",
        name="shared",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.fixture
def wake(emissary):  # noqa: ARG001 - the connection points to it
    return maker(EmissaryReactivateOperator, task_id="wake", **WAITING)


def deployed(emissary, state="Deployed", **fields):
    """A deployment of the same checkpoint that somebody else has made."""
    return emissary.new(
        "deployment", (state,), **{"name": "live", "training_id": "tr-1", "checkpoint": 200} | fields
    )


# ---- deploying -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_checkpoint_is_deployed(emissary, deploy, deferrable):
    ended = run_to_end(deploy(inactive_timeout="600", description="d", deferrable=deferrable))
    assert ended.result == {
        "job_id": "ms-1/dp-1",
        "project_id": "ms-1",
        "deployment_id": "dp-1",
        "model_name": "live",
        "status": "Deployed",
        "training_job_id": "tr-1",
        "checkpoint": 200,
        "engine_id": None,
        "new": True,
    }
    assert emissary.sent(DEPLOYMENTS) == [
        {
            "training_job_id": "tr-1",
            "checkpoint": 200,
            "name": "live",
            "description": "d",
            "inactive_timeout": 600,
        }
    ]
    assert len(ended.deferrals) == deferrable


def test_a_checkpoint_is_deployed_on_an_engine(emissary, deploy):
    emissary.new("engine", ("Active",))
    assert run_to_end(deploy(engine_id="engine-1")).result["engine_id"] == "engine-1"
    assert emissary.sent("/v1/engines/engine-1/deploy") == [
        {"project_id": "ms-1", "training_id": "tr-1", "checkpoint": 200, "name": "live"}
    ]


@pytest.mark.parametrize(
    "argument", [{"description": "d"}, {"inactive_timeout": 600}, {"schedule": {"timezone": "UTC"}}]
)
def test_what_an_engine_does_not_take_is_refused(emissary, deploy, argument):
    with pytest.raises(InvalidArgumentError, match="an engine does not take them"):
        run_to_end(deploy(engine_id="engine-1", **argument))
    assert emissary.sent("/v1/engines/engine-1/deploy") == []


@pytest.mark.parametrize("state", ["Deployed", "Deactivated", "Deploying"])
def test_a_live_deployment_of_the_same_checkpoint_is_used(emissary, deploy, state):
    found = deployed(emissary, state)
    found.states = ["Deploying", "Deployed"] if state == "Deploying" else [state]
    result = run_to_end(deploy(), TI).result
    assert (result["deployment_id"], result["status"], result["new"]) == ("dp-1", "Deployed", False)
    assert len(emissary.deployments) == 1
    assert not emissary.sent(DEPLOYMENTS)
    assert emissary.request_counts[f"POST {DEPLOYMENTS}/dp-1/reactivate"] == (state == "Deactivated")


@pytest.mark.parametrize(
    "other", [{"state": "Failed"}, {"checkpoint": 100}, {"training_id": "tr-2"}, {"name": "other"}]
)
def test_another_deployment_is_not_used(emissary, deploy, other):
    deployed(emissary, **other)
    assert run_to_end(deploy(reuse=True)).result["new"] is True
    assert len(emissary.deployments) == 2


def test_a_deployment_is_not_used_if_that_is_not_wanted(emissary, deploy):
    deployed(emissary)
    assert run_to_end(deploy(reuse="false")).result["deployment_id"] == "dp-2"


def test_a_retry_attaches_to_the_deployment(emissary, deploy):
    emissary.scripts.deployment = ("Pending", "Pending", "Deploying", "Deploying", "Deployed")
    begin(deploy(), TI)
    result = run_to_end(deploy(), TI.retried()).result
    assert (result["deployment_id"], result["new"]) == ("dp-1", True)
    assert len(emissary.deployments) == 1


def test_a_deployment_whose_answer_was_lost_is_found_by_its_name(emissary, deploy):
    emissary.lose = [f"POST {DEPLOYMENTS}"]
    with pytest.raises(UnavailableError):
        run_to_end(deploy(reuse=False), TI)
    assert run_to_end(deploy(reuse=False), TI.retried()).result["deployment_id"] == "dp-1"
    assert len(emissary.deployments) == 1


def test_a_deployment_that_is_parked_before_anybody_looks_is_woken(emissary, deploy):
    emissary.scripts.deployment = ("Deploying", "Deactivated")
    ended = run_to_end(deploy())
    assert ended.result["status"] == "Deployed"
    assert emissary.request_counts[f"POST {DEPLOYMENTS}/dp-1/reactivate"] == 1
    assert [deferral.trigger["kind"] for deferral in ended.deferrals] == [
        "emissary/created_deployment",
        "emissary/deployment",
    ]


@pytest.mark.parametrize("state", ["Failed", "Terminated"])
def test_a_dead_deployment_is_one_clear_error(emissary, deploy, state):
    emissary.scripts.deployment = ("Deploying", state)
    with pytest.raises(JobFailedError, match=f"Deployment ms-1/dp-1 ended as {state}. It no longer runs"):
        run_to_end(deploy())


def test_a_new_deployment_is_deleted_when_the_timeout_has_passed(emissary, deploy):
    emissary.scripts.deployment = ("Deploying",)
    with pytest.raises(WaitTimeoutError, match="ms-1/dp-1 is deleted"):
        run_to_end(deploy(timeout=1.5), TI.retried())
    assert not emissary.deployments


def test_a_deployment_of_somebody_else_is_left_when_the_timeout_has_passed(emissary, deploy):
    deployed(emissary, "Deploying")
    with pytest.raises(WaitTimeoutError, match="ms-1/dp-1 stays as it is"):
        run_to_end(deploy(timeout=1.5), TI.retried())
    assert list(emissary.deployments) == ["dp-1"]


def test_the_try_after_a_kill_deploys_again(emissary, deploy):
    """The kill has deleted the deployment."""
    emissary.scripts.deployment = ("Deploying",)
    begin(deploy(), TI)
    emissary.deployments.clear()
    emissary.scripts.deployment = ("Deployed",)
    second = begin(deploy(), TI.retried())
    event = second.wait(submitted_at=0.0)
    assert event["lost"]
    result = resume(deploy(), second, event, TI.retried())
    assert (result["deployment_id"], result["status"]) == ("dp-1", "Deployed")
    assert len(emissary.sent(DEPLOYMENTS)) == 2


@pytest.mark.parametrize(("new", "left"), [(True, []), (False, ["dp-1"])])
def test_a_kill_in_the_triggerer_deletes_only_what_the_task_has_created(emissary, deploy, new, left):
    if new:
        emissary.scripts.deployment = ("Deploying",)
    else:
        deployed(emissary, "Deploying")
    deferral = begin(deploy())
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    assert list(emissary.deployments) == left
    said = "Deleted deployment ms-1/dp-1." if new else "Deployment ms-1/dp-1 stays as it is, and may bill"
    assert any(said in line for line in lines)


# ---- engines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_engine_is_created_once_and_then_found(emissary, engine, deferrable):
    created = run_to_end(engine(schedule={"timezone": "UTC"}, deferrable=deferrable)).result
    assert created == {
        "job_id": "engine-1",
        "engine_id": "engine-1",
        "name": "shared",
        "base_model": "base",
        "status": "Active",
        "new": True,
    }
    other = TI.__class__(run_id="another run")
    found = run_to_end(engine(), other).result
    assert (found["engine_id"], found["new"]) == ("engine-1", False)
    assert len(emissary.engines) == 1


def test_a_parked_engine_is_woken(emissary, engine):
    emissary.new("engine", ("Inactive",), name="shared", base_model="base")
    result = run_to_end(engine()).result
    assert (result["status"], result["new"]) == ("Active", False)


def test_a_parked_engine_that_never_wakes_is_one_clear_error(emissary, engine):
    emissary.new("engine", ("Inactive",), name="shared", base_model="base")
    emissary.scripts.woken_engine = ("Inactive",)
    with pytest.raises(WaitTimeoutError, match=r"Engine engine-1 was not active after 1 s \(wake_timeout\)"):
        run_to_end(engine(wake_timeout=1), TI.retried())
    assert list(emissary.engines) == ["engine-1"]


def test_an_engine_that_is_never_created_is_deleted_after_the_timeout(emissary, engine):
    emissary.scripts.engine = ("Creating",)
    with pytest.raises(WaitTimeoutError, match="engine-1 is deleted"):
        run_to_end(engine(timeout=1.5), TI.retried())
    assert not emissary.engines


def test_an_engine_is_put_to_sleep_once(emissary):
    emissary.new("engine", ("Active",))
    sleep = maker(EmissaryDeactivateEngineOperator, task_id="sleep", engine_id="engine-1", **WAITING)
    for _ in range(2):
        assert run_to_end(sleep()).result == {"engine_id": "engine-1", "status": "Inactive"}
    assert emissary.request_counts["POST /v1/engines/engine-1/deactivate"] == 1


def test_an_engine_that_is_being_created_cannot_be_put_to_sleep(emissary):
    emissary.new("engine", ("Creating",))
    with pytest.raises(
        JobFailedError, match="Engine engine-1 is Creating and cannot be put to sleep; it bills"
    ):
        run_to_end(
            maker(EmissaryDeactivateEngineOperator, task_id="sleep", engine_id="engine-1", **WAITING)()
        )


# ---- waking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_parked_deployment_is_woken_without_holding_the_worker(emissary, wake, deferrable):
    deployed(emissary, "Deactivated")
    with log_lines() as lines:
        ended = run_to_end(wake(job_id="ms-1/dp-1", deferrable=deferrable, timeout=1800))
    assert ended.result == {"job_id": "ms-1/dp-1", "status": "Deployed"}
    assert len(ended.deferrals) == deferrable
    assert any(
        line.endswith("woke it, which takes about 8 to 20 minutes. Waiting up to 30 min.") for line in lines
    )


def test_what_is_active_or_waking_is_not_woken_again(emissary, wake):
    emissary.new("engine", ("Active",))
    assert run_to_end(wake(engine_id="engine-1")).result == {"engine_id": "engine-1", "status": "Active"}
    deployed(emissary).states = ["Reactivating", "Deployed"]
    assert run_to_end(wake(job_id="ms-1/dp-1")).result["status"] == "Deployed"
    assert not [request for request in emissary.request_counts if request.endswith("/reactivate")]


def test_a_deployment_that_somebody_wakes_at_the_same_moment_is_waited_for(emissary, wake):
    deployed(emissary).states = ["Deactivated", "Reactivating", "Deployed"]
    assert run_to_end(wake(job_id="ms-1/dp-1")).result["status"] == "Deployed"


def test_a_deployment_that_ends_while_it_wakes_fails(emissary, wake):
    deployed(emissary, "Deactivated")
    emissary.scripts.woken_deployment = ("Reactivating", "Terminated")
    with pytest.raises(
        JobFailedError, match=r"ms-1/dp-1 is Terminated\. It cannot be woken: deploy the checkpoint"
    ):
        run_to_end(wake(job_id="ms-1/dp-1"))


def test_a_deployment_that_is_deleted_while_it_wakes_is_lost(emissary, wake):
    deployed(emissary, "Deactivated")
    emissary.scripts.woken_deployment = ("Reactivating",)
    deferral = begin(wake(job_id="ms-1/dp-1"))
    emissary.deployments.clear()
    event = deferral.wait(submitted_at=0.0)
    with pytest.raises(JobLostError, match="Deployment ms-1/dp-1 cannot be polled any more"):
        resume(wake(job_id="ms-1/dp-1"), deferral, event)


def test_a_wake_up_needs_one_target(wake):
    for arguments in ({}, {"job_id": "ms-1/dp-1", "engine_id": "engine-1"}):
        with pytest.raises(InvalidArgumentError, match="exactly one of job_id and engine_id"):
            run_to_end(wake(**arguments))


# ---- removing --------------------------------------------------------------------------------------------------


def test_deployments_are_removed_by_their_name(emissary):
    deployed(emissary)
    deployed(emissary, "Failed")
    deployed(emissary, name="other")
    undeploy = maker(EmissaryUndeployOperator, task_id="undeploy", model_name="live", project_id="ms-1")
    assert run_to_end(undeploy()).result == {
        "model_name": "live",
        "deleted": True,
        "deployment_ids": ["dp-1", "dp-2"],
    }
    assert list(emissary.deployments) == ["dp-3"]
    with log_lines() as lines:
        assert run_to_end(undeploy()).result["deleted"] is False
    assert any("it is already gone" in line for line in lines)
    del emissary.projects["ms-1"]
    assert run_to_end(undeploy()).result["deleted"] is False


def test_a_deployment_is_removed_from_its_engine_by_name(emissary):
    emissary.new("engine", ("Active",))
    deployed(emissary).engine = "engine-1"
    undeploy = maker(EmissaryUndeployOperator, task_id="undeploy", model_name="live", engine_id="engine-1")
    assert run_to_end(undeploy()).result["deployment_ids"] == ["dp-1"]
    assert emissary.sent("/v1/engines/engine-1/undeploy") == [{"deployment_name": "live"}]
    assert run_to_end(undeploy()).result["deleted"] is False
    emissary.engines.clear()
    assert run_to_end(undeploy()).result["deleted"] is False


def test_a_refused_removal_fails(emissary):
    emissary.new("engine", ("Active",))
    deployed(emissary).engine = "engine-1"
    emissary.fail["/v1/engines/engine-1/undeploy"] = [(400, "busy")]
    with pytest.raises(BadRequestError, match="busy"):
        run_to_end(maker(EmissaryUndeployOperator, task_id="u", model_name="live", engine_id="engine-1")())


@pytest.mark.usefixtures("emissary")
def test_an_undeploy_needs_a_place():
    with pytest.raises(InvalidArgumentError, match="Give project_id or engine_id"):
        run_to_end(maker(EmissaryUndeployOperator, task_id="u", model_name="live")())


@pytest.mark.parametrize("kind", ["deployment", "training", "dataset", "engine"])
def test_anything_is_deleted_by_its_id(emissary, kind):
    item = emissary.new(kind, ("x",))
    job_id = item.id if kind == "engine" else f"ms-1/{item.id}"
    delete = maker(EmissaryDeleteOperator, task_id="delete", job_id=job_id, kind=kind)
    assert run_to_end(delete()).result == {"job_id": job_id, "kind": kind, "deleted": True}
    assert run_to_end(delete()).result["deleted"] is False
