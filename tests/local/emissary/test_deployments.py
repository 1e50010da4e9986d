"""Deployments and engines: they are activated, fall asleep, are woken, and are removed."""

from __future__ import annotations

import time

import pytest

from tests.support.emissary_api import ROWS
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE, OTHER_BASE, VECTORS


@pytest.fixture
def job(client, project):
    return client.trained(project, base_model=BASE, train_dataset_id=client.dataset(project))


def complete(client, model, prompt=ROWS[0]["input"]):
    return client.post("/completions", json={"model": model, "prompt": prompt})


def delays(platform, **seconds):
    platform.http.post("/_control/delays", json=seconds).raise_for_status()


def test_a_deployment_is_pending_then_deploying_then_deployed(client, project, job, control, platform):
    delays(platform, activation=600)  # however late it is seen, it is still deploying
    control.hold(kind="emissary_activation")
    slow = client.deploy(project, job, 4, name="slow")
    assert client.deployment(project, slow)["status"] == "Pending"
    control.release()
    wait_until(lambda: client.deployment(project, slow)["status"] == "Deploying")
    assert complete(client, "slow").status_code == 400
    delays(platform, activation=0)
    deployment = client.deploy(project, job, 4, name="live", description="the first")
    client.wait_for_deployment(project, deployment)
    shown = client.deployment(project, deployment)
    assert (shown["training_id"], shown["checkpoint"], shown["description"]) == (job, 4, "the first")
    assert complete(client, "live").json()["choices"][0]["text"] == ROWS[0]["output"]
    assert complete(client, BASE).json()["choices"][0]["text"] != ROWS[0]["output"]


def test_a_request_wakes_a_deployment_that_has_fallen_asleep(client, project, job, platform):
    delays(platform, reactivation=0.4)
    deployment = client.deploy(project, job, 1, name="live", inactive_timeout=2)
    client.wait_for_deployment(project, deployment, "Deactivated")
    response = complete(client, "live")
    assert (response.status_code, "reactivated" in response.json()["error"]) == (400, True)
    assert client.deployment(project, deployment)["status"] == "Reactivating"
    path = f"/projects/{project}/deployments/{deployment}/reactivate"
    assert (client.post(path).status_code, client.post(path).content) == (400, b"")
    client.wait_for_deployment(project, deployment)
    assert complete(client, "live").status_code == 200
    assert client.post(path).status_code == 400


def test_requests_keep_a_deployment_awake(client, project):
    deployment = client.deploy(project, BASE, 0, name="live", inactive_timeout=2)
    client.wait_for_deployment(project, deployment)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        time.sleep(0.1)
        assert complete(client, "live").status_code == 200


@pytest.mark.parametrize(("end", "status"), [("failed", "Failed"), ("timed out", "TimedOut")])
def test_a_deployment_that_ends_otherwise_cannot_answer(client, project, control, end, status):
    control.hold(kind="emissary_activation")
    deployment = client.deploy(project, BASE, 0, name="live")
    (activation,) = control.jobs("emissary_activation")
    assert control.end(activation["id"], end)
    assert client.deployment(project, deployment)["status"] == status
    response = complete(client, "live")
    assert (response.status_code, status in response.json()["error"]) == (400, True)


def test_an_adapter_that_cannot_be_loaded_fails_its_deployment(client, project, job, platform):
    platform.engine.refuses = "out of memory"
    deployment = client.deploy(project, job, 1)
    client.wait_for_deployment(project, deployment, "Failed")


def test_names_are_unique_among_live_deployments(client, project, job):
    deployment = client.deploy(project, job, 1, name="live")
    path = f"/projects/{project}/deployments"
    for name in ("live", BASE):
        body = {"training_job_id": job, "checkpoint": 1, "name": name}
        assert client.post(path, json=body).status_code == 400
    assert client.delete(f"{path}/{deployment}").status_code == 204
    assert client.get(f"{path}/{deployment}").status_code == 404
    assert complete(client, "live").status_code == 404
    client.deploy(project, job, 1, name="live")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"checkpoint": 9}, "has no checkpoint 9"),
        ({"training_job_id": "tr-unknown"}, "Training job 'tr-unknown' not found"),
        ({"training_job_id": BASE, "checkpoint": 1}, "use 0"),
        ({"inactive_timeout": 0}, "inactive_timeout"),
        ({"schedule": {"timezone": "Nowhere/Land"}}, "schedule.timezone"),
        ({"schedule": {"start_time": "25:00"}}, "schedule.start_time"),
        ({"checkpoint": None}, "checkpoint"),
    ],
)
def test_a_deployment_that_cannot_be_made_is_refused(client, project, job, body, said):
    body = {"training_job_id": job, "checkpoint": 1, **body}
    response = client.post(f"/projects/{project}/deployments", json=body)
    assert response.status_code == 400
    assert said in response.json()["error"]


def test_a_deployment_outlives_its_training_job(client, project, job):
    deployment = client.deploy(project, job, 4, name="live")
    client.wait_for_deployment(project, deployment)
    client.delete(f"/projects/{project}/training-jobs/{job}")
    assert complete(client, "live").json()["choices"][0]["text"] == ROWS[0]["output"]


# -- engines


def engine_status(client, engine):
    return client.get(f"/engines/{engine}").json()["status"]


def deploy_on(client, engine, project, training, checkpoint, **body):
    body = {"project_id": project, "training_id": training, "checkpoint": checkpoint, **body}
    return client.post(f"/engines/{engine}/deploy", json=body)


def test_deployments_on_an_engine_sleep_and_wake_with_it(client, project, job):
    engine = client.engine(base_model=BASE, name="shared")
    deployment = deploy_on(client, engine, project, job, 1, name="live").json()["id"]
    client.wait_for_deployment(project, deployment)
    shown = client.get(f"/engines/{engine}").json()
    assert [item["id"] for item in shown["deployments"]] == [deployment]
    assert client.get("/engines", params={"base_model": BASE}).json()[0]["deployment_counts"] == 1
    assert client.get("/engines", params={"task_type": "classification"}).json() == []
    assert client.post(f"/engines/{engine}/deactivate").status_code == 204
    assert client.post(f"/engines/{engine}/deactivate").status_code == 400
    assert engine_status(client, engine) == "Inactive"
    assert client.deployment(project, deployment)["status"] == "Deactivated"
    assert complete(client, "live").status_code == 400
    wait_until(lambda: engine_status(client, engine) == "Active")
    client.wait_for_deployment(project, deployment)
    assert complete(client, "live").status_code == 200
    assert client.post(f"/engines/{engine}/reactivate").status_code == 400


def test_undeploying_takes_the_name_and_frees_it(client, project, job):
    engine = client.engine(base_model=BASE)
    deployment = deploy_on(client, engine, project, job, 1, name="live").json()["id"]
    client.wait_for_deployment(project, deployment)
    path = f"/engines/{engine}/undeploy"
    assert client.post(path, json={"deployment_name": deployment}).status_code == 400
    assert client.post(path, json={"deployment_name": "live"}).status_code == 204
    assert client.post(path, json={"deployment_name": "live"}).status_code == 400
    assert client.deployment(project, deployment)["status"] == "Terminated"
    assert complete(client, "live").status_code == 404
    assert deploy_on(client, engine, project, job, 1, name="live").status_code == 201


def test_an_engine_that_does_not_fit_is_refused(client, project, job, platform):
    other = client.engine(base_model=OTHER_BASE)
    assert "serves" in deploy_on(client, other, project, job, 1).json()["error"]
    delays(platform, activation=60)
    creating = client.post("/engines", json={"base_model": BASE}).json()
    assert creating["status"] == "Creating"
    assert "Creating" in deploy_on(client, creating["id"], project, job, 1).json()["error"]
    assert "project_id" in deploy_on(client, other, "ms-unknown", OTHER_BASE, 0).json()["error"]
    assert client.post("/engines", json={"base_model": "unknown"}).status_code == 400
    for action in ("reactivate", "deactivate"):
        assert client.post(f"/engines/engine-unknown/{action}").status_code == 404


def test_deleting_an_engine_terminates_its_deployments(client, project, job):
    engine = client.engine(base_model=BASE)
    deployment = deploy_on(client, engine, project, job, 1, name="live").json()["id"]
    client.wait_for_deployment(project, deployment)
    assert client.delete(f"/engines/{engine}").status_code == 204
    assert client.get(f"/engines/{engine}").status_code == 404
    assert client.deployment(project, deployment)["status"] == "Terminated"


def test_an_engine_shows_when_it_is_put_to_sleep(client):
    schedule = {"timezone": "UTC", "start_time": "00:00", "end_time": "23:59", "days": ["monday"]}
    for config in (
        {"management_type": "inactive_timeout", "management_config": {"inactive_duration": 60}},
        {"management_type": "schedule", "management_config": schedule},
    ):
        created = client.post("/engines", json={"base_model": VECTORS, "resource_management_config": config})
        shown = client.get(f"/engines/{created.json()['id']}").json()
        assert shown["resource_management_config"] == config
