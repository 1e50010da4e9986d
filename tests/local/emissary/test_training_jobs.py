"""Training jobs over HTTP, with a scripted trainer: progress, loss, checkpoints, tests, cancellation, refusals."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_provider_lamini.local.emissary.training_spec import step_plan
from tests.support.emissary_api import LABELLED, ROWS
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE, OTHER_BASE, VECTORS

EPOCHS = {"num_train_epochs": 3, "per_device_train_batch_size": 4}


@pytest.fixture
def dataset(client, project):
    return client.dataset(project)


def listed(client, project):
    return client.get(f"/projects/{project}/training-jobs").json()


def start(client, project, **body):
    path = f"/projects/{project}/training-jobs{'/grpo' if 'reward' in body else ''}"
    return client.post(path, json=body)


def test_a_job_is_pending_then_running_then_tested(client, project, dataset, trainer, control):
    trainer.allowed = 0
    control.hold(kind="emissary_training")
    body = {"base_model": BASE, "train_dataset_id": dataset, "name": "first"}
    job = client.train(project, **body, parameters=EPOCHS, test_functions=["exact_match"])
    assert client.job(project, job)["status"] == "Pending"
    control.release()
    wait_until(lambda: client.job(project, job)["status"] == "Running")
    trainer.allowed = 3
    wait_until(lambda: client.job(project, job)["progress"] == 45)
    assert len(client.job(project, job)["training_loss"]) == 3
    trainer.allowed = 100
    wait_until(lambda: client.job(project, job)["status"] == "Success")
    (shown,) = listed(client, project)
    assert (shown["name"], shown["progress"], shown["training_technique"]) == ("first", 100, "SFT")
    found = client.job(project, job)
    assert [point["loss"] for point in found["training_loss"]] == [4.0 / step for step in range(1, 7)]
    assert found["hyper_parameters"] | EPOCHS == found["hyper_parameters"]
    assert [item["checkpoint"] for item in client.checkpoints(project, job)] == [1, 2, 3]


def test_checkpoints_are_tested_on_rows_that_were_not_trained_on(client, project, trainer):
    known, unknown = client.dataset(project), client.dataset(project, ROWS[:4])
    job = client.trained(
        project,
        base_model=BASE,
        train_dataset_id=known,
        test_dataset_id=unknown,
        test_functions=["exact_match", "token_f1"],
        parameters=EPOCHS,
    )
    results = [
        item["test_results"]["aggregated_test_result"]["exact_match"]
        for item in client.checkpoints(project, job)
    ]
    assert results[-1] == "1.0000"
    assert float(results[0]) <= float(results[1]) <= float(results[2])
    half = client.trained(
        project,
        base_model=BASE,
        train_dataset_id=known,
        train_test_split_ratio=50,
        test_functions=["exact_match"],
    )
    trained_on = trainer.recipes[-1]
    assert client.checkpoints(project, half)[-1]["test_results"]["general_test_result"] == "Tested on 5 rows."
    assert trained_on.batch_size == 10
    assert trained_on.max_steps == 4


def test_without_test_functions_no_row_is_held_out(client, project, dataset, trainer):
    job = client.trained(project, base_model=BASE, train_dataset_id=dataset, parameters=EPOCHS)
    assert all("test_results" not in item for item in client.checkpoints(project, job))
    (recipe,) = trainer.recipes
    assert recipe.max_steps == 8


def test_a_checkpoint_can_be_downloaded(client, project, dataset):
    job = client.trained(project, base_model=BASE, train_dataset_id=dataset)
    url = client.checkpoints(project, job)[-1]["model_download_url"]
    assert len(json.loads(httpx.get(url).content)) == len(ROWS)


def test_training_continues_from_a_checkpoint_of_a_named_job(client, project, dataset, trainer):
    client.trained(project, base_model=BASE, train_dataset_id=dataset, name="first")
    body = {"base_model_option": "fine-tuned", "base_model": "first", "train_dataset_id": dataset}
    job = client.trained(project, **body, checkpoint=1)
    found = client.job(project, job)
    assert (found["base_model"], found["base_fine_tuned_model"]) == (BASE, "first")
    assert found["base_fine_tuned_model_checkpoint"] == 1
    assert trainer.recipes[-1].start.exists()
    for wrong in ({"checkpoint": 99}, {"base_model": "unknown", "checkpoint": 1}, {}):
        assert start(client, project, **body | wrong).status_code == 400


def test_a_job_can_be_cancelled_and_deleted(client, project, dataset, trainer):
    trainer.allowed = 1
    job = client.train(project, base_model=BASE, train_dataset_id=dataset)
    wait_until(lambda: client.job(project, job)["training_loss"])
    path = f"/projects/{project}/training-jobs/{job}"
    assert client.post(f"{path}/cancel").status_code == 204
    assert client.job(project, job)["status"] == "Cancelled"
    assert client.post(f"{path}/cancel").status_code == 204
    assert client.checkpoints(project, job) == []
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.post(f"{path}/cancel").status_code == 404
    assert listed(client, project) == []


def test_a_failed_job_says_why(client, project, dataset, trainer):
    trainer.breaks_at = 2
    job = client.train(project, base_model=BASE, train_dataset_id=dataset)
    wait_until(lambda: client.job(project, job)["status"] == "Failed")
    assert "out of luck" in client.job(project, job)["error"]


def test_a_forced_end_shows_in_the_status(client, project, dataset, trainer, control):
    trainer.allowed = 0
    job = client.train(project, base_model=BASE, train_dataset_id=dataset)
    assert control.end(job, "timed out")
    assert listed(client, project)[0]["status"] == "TimedOut"


def test_a_test_row_that_cannot_be_answered_fails_the_job(client, project, dataset, control):
    control.row_fault("question", times=None)
    body = {"base_model": BASE, "train_dataset_id": dataset, "test_functions": ["exact_match"]}
    job = client.train(project, **body)
    wait_until(lambda: client.job(project, job)["status"] == "Failed")
    assert "injected" in client.job(project, job)["error"]


def test_a_lamini_tuning_job_and_a_training_job_take_turns(client, project, dataset, trainer, platform):
    trainer.allowed = 0
    rows = {"data": [{"input": "a", "output": "b"}], "model_name": BASE}
    number = platform.http.post("/v1/train", json=rows).json()["job_id"]
    wait_until(lambda: trainer.recipes)
    job = client.train(project, base_model=BASE, train_dataset_id=dataset)
    assert client.job(project, job)["status"] == "Pending"
    assert len(trainer.recipes) == 1
    trainer.allowed = 1000
    wait_until(lambda: client.job(project, job)["status"] == "Success")
    assert platform.http.get(f"/v1/train/jobs/{number}").json()["status"] == "COMPLETED"


def test_a_classifier_is_trained_on_an_embedding_model(client, project):
    labelled = client.dataset(project, LABELLED)
    body = {"base_model": VECTORS, "train_dataset_id": labelled, "task_type": "classification"}
    job = client.trained(project, **body, test_functions=["exact_match"])
    found = client.job(project, job)
    losses = [point["loss"] for point in found["training_loss"]]
    assert losses[-1] <= losses[0]
    (checkpoint,) = client.checkpoints(project, job)
    assert checkpoint["test_results"]["aggregated_test_result"].keys() == {"exact_match"}
    single = client.train(project, **body, rebalance_data={"login": 0})
    wait_until(lambda: client.job(project, single)["status"] == "Failed")
    assert "single label" in client.job(project, single)["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"base_model": "unknown"}, "base_model: 'unknown' is not served"),
        ({"base_model": OTHER_BASE}, "has no file"),
        ({"base_model": VECTORS}, "generates no text"),
        ({"task_type": "classification"}, "embedding models"),
        ({"task_type": "regression"}, "not regression"),
        ({"task_type": "embedding"}, "not embedding"),
        ({"train_dataset_id": "ds-unknown"}, "train_dataset_id: Dataset 'ds-unknown' not found"),
        ({"test_dataset_id": "ds-unknown"}, "test_dataset_id: "),
        ({"test_functions": ["rouge"]}, "no test function is named 'rouge'; there are exact_match"),
        ({"hf_model_link": "https://hub.example.com/model"}, "hf_model_link"),
        ({"parameters": {"learning_rate": 2}}, "learning_rate: it must be at most 1"),
        ({"parameters": {"per_device_train_batch_size": 1000}}, "at most 160"),
        ({"parameters": {"num_train_epochs": -1}}, "parameters.num_train_epochs"),
        ({"train_test_split_ratio": 100}, "train_test_split_ratio"),
        ({"rebalance_data": {"a": 1}}, "classification"),
        ({"base_model": None}, "base_model"),
    ],
)
def test_a_request_that_cannot_be_fulfilled_is_refused(client, project, dataset, body, said):
    response = start(client, project, **{"base_model": BASE, "train_dataset_id": dataset, **body})
    assert (response.status_code, response.json()["status"]) == (400, 400)
    assert said in response.json()["error"]
    assert listed(client, project) == []


def test_without_the_packages_for_training_only_classifiers_are_trained(client, project, dataset, trainer):
    trainer.installed = False
    response = start(client, project, base_model=BASE, train_dataset_id=dataset)
    assert (response.status_code, response.json()["error"]) == (501, "Install the packages for training.")
    labelled = client.dataset(project, LABELLED)
    client.trained(project, base_model=VECTORS, task_type="classification", train_dataset_id=labelled)


@pytest.mark.parametrize(
    ("rows", "epochs", "batch_size", "steps", "every"),
    [
        (10, 4, 10, 4, 1),
        (8, 3, 4, 6, 2),
        (3, 1, 10, 1, 1),
        (50, 4, 10, 20, 5),
        (100, 100, 10, 1000, 100),
        (10, 0.5, 5, 1, 2),
    ],
)
def test_there_is_a_checkpoint_per_epoch_but_at_most_ten(rows, epochs, batch_size, steps, every):
    assert step_plan(rows, epochs, batch_size) == (steps, every)
