"""What survives a restart of the platform, and what a reset deletes."""

from __future__ import annotations

import pytest

from tests.support.emissary_api import ROWS, EmissaryClient
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE, KEY


@pytest.fixture
def restarted(platform):
    """Restart the platform, and return a client of the new process."""
    clients = []

    def restart():
        platform.stop()
        platform.start()
        clients.append(EmissaryClient(platform.url, KEY))
        return clients[-1]

    yield restart
    for client in clients:
        client.close()


def complete(client, model):
    return client.post("/completions", json={"model": model, "prompt": ROWS[0]["input"]})


def test_everything_is_still_there_after_a_restart(client, project, restarted):
    dataset = client.dataset(project)
    job = client.trained(project, base_model=BASE, train_dataset_id=dataset, test_functions=["token_f1"])
    engine = client.engine(base_model=BASE)
    deployment = client.deploy(project, job, 4, name="live")
    client.wait_for_deployment(project, deployment)
    paths = [f"/projects/{project}", f"/projects/{project}/training-jobs/{job}", f"/engines/{engine}"]
    before = [client.get(path).json() for path in paths]
    results = [item["test_results"] for item in client.checkpoints(project, job)]
    again = restarted()
    assert [again.get(path).json() for path in paths] == before
    assert [item["test_results"] for item in again.checkpoints(project, job)] == results
    assert complete(again, "live").status_code == 200


def test_a_training_and_an_activation_continue_after_a_restart(client, project, trainer, platform, restarted):
    dataset = client.dataset(project)
    ready = client.trained(project, base_model=BASE, train_dataset_id=dataset)
    platform.http.post("/_control/delays", json={"activation": 1}).raise_for_status()
    deployment = client.deploy(project, ready, 1, name="live")
    trainer.allowed = 2
    trainer.taken.clear()
    job = client.train(
        project, base_model=BASE, train_dataset_id=dataset, parameters={"num_train_epochs": 20}
    )
    wait_until(lambda: len(client.job(project, job)["training_loss"]) == 2)
    again = restarted()
    assert again.job(project, job)["status"] in ("Pending", "Running")
    trainer.allowed = 100
    wait_until(lambda: again.job(project, job)["status"] == "Success")
    assert len(again.job(project, job)["training_loss"]) == 20
    again.wait_for_deployment(project, deployment)
    assert complete(again, "live").status_code == 200


def test_a_reset_deletes_everything(client, project, control):
    dataset = client.dataset(project)
    job = client.trained(project, base_model=BASE, train_dataset_id=dataset)
    client.wait_for_deployment(project, client.deploy(project, job, 1, name="live"))
    client.engine(base_model=BASE)
    control.reset()
    assert client.get("/projects").json() == client.get("/engines").json() == []
    assert complete(client, "live").status_code == 404
    assert control.jobs() == []
