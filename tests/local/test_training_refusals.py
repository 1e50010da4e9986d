"""Tuning requests that are rejected before a job is created, and rows that make a job fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.local.routes.training import MAX_MODELS
from tests.support.local_platform import local_platform
from tests.support.scripted_tuning import BASE, OTHER_BASE, VECTORS, ScriptedTrainer, tunable_platform
from tests.support.tuning_api import ROWS, dataset, start_job, wait_for_jobs
from tests.support.upstream import TEXT_MODEL, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.scripted_tuning import TunablePlatform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[TunablePlatform]:
    with tunable_platform(tmp_path / "platform", ScriptedTrainer()) as started:
        yield started


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    """A platform for requests that start no job."""
    with tunable_platform(tmp_path_factory.mktemp("refusing") / "platform", ScriptedTrainer()) as started:
        yield started


def rejection(platform: TunablePlatform, **body: Any) -> tuple[int, str]:
    response = platform.http.post("/v1/train", json=body)
    detail = response.json()["detail"]
    return response.status_code, detail if isinstance(detail, str) else json.dumps(detail)


def test_without_torch_a_job_is_rejected_with_what_to_install(platform):
    platform.trainer.installed = False
    refusal = rejection(platform, model_name=BASE, dataset_id=dataset(platform))
    assert refusal == (501, "Install the packages for training.")
    assert platform.http.get("/v1/train/jobs").json() == []
    asked = platform.http.get("/v1/get-upload-base-path").json()
    assert asked["tuning_unavailable"] == "Install the packages for training."


def test_a_model_of_an_upstream_engine_cannot_be_tuned(tmp_path):
    with upstream() as engine, local_platform(tmp_path / "platform", engine.url) as platform:
        with platform.client() as http:
            response = http.post("/v1/train", json={"model_name": TEXT_MODEL, "data": ROWS})
            asked = http.get("/v1/get-upload-base-path").json()
        assert response.status_code == 501
        assert response.json()["detail"].startswith("Start the local platform without --upstream")
        assert asked["tuning_unavailable"] == response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model_name": "nobody/nothing"}, 594, "is not served"),
        ({"model_name": VECTORS}, 400, "is an embedding model"),
        ({"model_name": OTHER_BASE}, 400, "has no file"),
        ({"model_name": ""}, 422, "model_name"),
        ({"dataset_id": "none"}, 404, "Dataset 'none' not found"),
        ({"dataset_id": None}, 422, "Exactly one of dataset_id and data"),
        ({"data": ROWS}, 422, "Exactly one of dataset_id and data"),
        ({"dataset_id": None, "data": []}, 422, "at least 1 item"),
        ({"upload_file_path": "local/" + "0" * 32 + ".jsonl"}, 404, "not found"),
        ({"finetune_args": {"max_steps": 0}}, 422, "max_steps"),
        ({"finetune_args": {"max_steps": "many"}}, 422, "max_steps"),
        ({"finetune_args": {"learning_rate": -1}}, 422, "learning_rate"),
        ({"finetune_args": {"r_value": 1000}}, 422, "r_value"),
        ({"finetune_args": {"max_length": 100}}, 422, "power of two"),
        ({"finetune_args": {"gradient_accumulation_steps": 33}}, 422, "gradient_accumulation_steps"),
        ({"finetune_args": {"optim": "magic"}}, 422, "optim"),
        ({"gpu_config": {"gpus": -1}}, 422, "gpus"),
        ({"train_type": "other"}, 422, "train_type"),
        ({"custom_model_name": "a\nb"}, 422, "control characters"),
        ({"custom_model_name": ""}, 422, "custom_model_name"),
    ],
)
def test_an_invalid_request_is_rejected_without_creating_a_job(shared_platform, body, status, message):
    request = {"model_name": BASE, "dataset_id": dataset(shared_platform), **body}
    refusal = rejection(shared_platform, **request)
    assert refusal[0] == status
    assert message in refusal[1]
    assert shared_platform.http.get("/v1/train/jobs").json() == []


def test_a_request_with_two_datasets_is_rejected(shared_platform):
    one, other = dataset(shared_platform), dataset(shared_platform)
    refusal = rejection(
        shared_platform, model_name=BASE, dataset_id=one, upload_file_path=f"local/{other}.jsonl"
    )
    assert refusal == (400, "upload_file_path and dataset_id name different datasets.")


def test_a_tuned_model_cannot_be_tuned_again(platform):
    name = wait_for_jobs(platform, start_job(platform), "COMPLETED")["model_name"]
    status, message = rejection(platform, model_name=name, dataset_id=dataset(platform))
    assert (status, "cannot be tuned again" in message) == (400, True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "a"}, "has no string 'output'"),
        ({"input": 3, "output": "b"}, "has no string 'input'"),
        ({"input": "a", "output": " "}, "has an empty 'output'"),
    ],
)
def test_an_invalid_row_is_named_by_its_number(platform, row, message):
    job = wait_for_jobs(platform, start_job(platform, dataset_id=dataset(platform, [*ROWS, row])), "FAILED")
    assert job["detail"].startswith("Row 8 of dataset ")
    assert message in job["detail"]


@pytest.mark.parametrize("what", ["", "/cancel", "/resume", "/eval"])
def test_an_unknown_job_returns_the_platforms_status(shared_platform, what):
    method = "POST" if what in ("/cancel", "/resume") else "GET"
    assert shared_platform.http.request(method, f"/v1/train/jobs/77{what}").status_code == 498
    assert shared_platform.http.request(method, f"/v1/train/jobs/none{what}").status_code == 404


def test_the_number_of_tuned_models_is_limited(platform):
    tunings = platform.platform.tunings
    for _ in range(MAX_MODELS):
        job = tunings.create(BASE, "d", None, {}, is_public=False)
        tunings.add_model(job, [])
    status, message = rejection(platform, model_name=BASE, dataset_id=dataset(platform))
    assert (status, "tuning/models" in message) == (400, True)
