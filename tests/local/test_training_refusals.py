"""Tuning that a platform refuses, and rows that cannot be learnt: said before a job is made, or by the job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.local.routes.training import MOST_MODELS
from tests.support.local_platform import local_platform
from tests.support.scripted_tuning import BASE, OTHER_BASE, VECTORS, ScriptedTrainer, tunable_platform
from tests.support.tuning_api import ROWS, begin, dataset, wait_for
from tests.support.upstream import TEXT_MODEL, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.scripted_tuning import TunablePlatform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[TunablePlatform]:
    with tunable_platform(tmp_path / "platform", ScriptedTrainer()) as running:
        yield running


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    """A platform for requests that start nothing."""
    with tunable_platform(tmp_path_factory.mktemp("refusing") / "platform", ScriptedTrainer()) as running:
        yield running


def refused(platform: TunablePlatform, **body: Any) -> tuple[int, str]:
    answer = platform.http.post("/v1/train", json=body)
    detail = answer.json()["detail"]
    return answer.status_code, detail if isinstance(detail, str) else json.dumps(detail)


def test_without_torch_a_job_is_refused_with_what_to_install(platform):
    platform.trainer.installed = False
    told = refused(platform, model_name=BASE, dataset_id=dataset(platform))
    assert told == (400, "Nothing to train with is installed.")
    assert platform.http.get("/v1/train/jobs").json() == []


def test_a_model_that_an_upstream_engine_serves_cannot_be_tuned_here(tmp_path):
    with upstream() as engine, local_platform(tmp_path / "platform", engine.url) as platform:
        with platform.client() as http:
            answer = http.post("/v1/train", json={"model_name": TEXT_MODEL, "data": ROWS})
        assert answer.status_code == 400
        assert "upstream engine" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model_name": "nobody/nothing"}, 594, "is not served"),
        ({"model_name": VECTORS}, 400, "makes vectors"),
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
def test_what_cannot_be_done_is_refused_and_no_job_is_made(refusing, body, status, said):
    whole = {"model_name": BASE, "dataset_id": dataset(refusing), **body}
    told = refused(refusing, **whole)
    assert told[0] == status
    assert said in told[1]
    assert refusing.http.get("/v1/train/jobs").json() == []


def test_two_datasets_at_once_are_refused(refusing):
    one, other = dataset(refusing), dataset(refusing)
    told = refused(refusing, model_name=BASE, dataset_id=one, upload_file_path=f"local/{other}.jsonl")
    assert told == (400, "upload_file_path is another dataset's than dataset_id.")


def test_a_tuned_model_cannot_be_tuned_again(platform):
    name = wait_for(platform, begin(platform), "COMPLETED")["model_name"]
    status, said = refused(platform, model_name=name, dataset_id=dataset(platform))
    assert (status, "cannot be tuned again" in said) == (400, True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"input": "a"}, "has no string 'output'"),
        ({"input": 3, "output": "b"}, "has no string 'input'"),
        ({"input": "a", "output": " "}, "has an empty 'output'"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_named_by_its_number(platform, row, said):
    job = wait_for(platform, begin(platform, dataset_id=dataset(platform, [*ROWS, row])), "FAILED")
    assert job["detail"].startswith("Row 8 of dataset ")
    assert said in job["detail"]


@pytest.mark.parametrize("what", ["", "/cancel", "/resume", "/eval"])
def test_an_unknown_job_is_told_as_the_platform_does(refusing, what):
    method = "POST" if what in ("/cancel", "/resume") else "GET"
    assert refusing.http.request(method, f"/v1/train/jobs/77{what}").status_code == 498
    assert refusing.http.request(method, f"/v1/train/jobs/none{what}").status_code == 422


def test_no_more_models_are_tuned_than_can_be_served(platform):
    tunings = platform.platform.tunings
    for _ in range(MOST_MODELS):
        job = tunings.create(BASE, "d", None, {}, is_public=False)
        tunings.add_model(job, [])
    status, said = refused(platform, model_name=BASE, dataset_id=dataset(platform))
    assert (status, "tuning/models" in said) == (400, True)
