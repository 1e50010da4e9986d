"""A bad argument of a call to Emissary fails before anything is sent, and names itself."""

from __future__ import annotations

import io

import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.platforms.emissary.api import (
    datasets,
    deployments,
    engines,
    inference,
    models,
    projects,
    training,
)

SECRET = "the patient's name"
FILE = FilePart("rows.jsonl", lambda: io.BytesIO(b""))


def sft(**arguments):
    return lambda: training.train("ms-1", **{"base_model": "b", "train_dataset_id": "ds-1"} | arguments)


def grpo(**arguments):
    defaults = {"base_model": "b", "train_dataset_id": "d", "test_functions": ["f"], "reward": {"f": 1}}
    return lambda: training.train_grpo("ms-1", **defaults | arguments)


def deploy(**arguments):
    return lambda: deployments.create("ms-1", **{"training_job_id": "tr-1", "checkpoint": 1} | arguments)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (sft(base_model=""), "base_model: "),
        (sft(train_dataset_id=None), "train_dataset_id: Field required"),
        (sft(base_model_option="tuned"), "base_model_option: "),
        (sft(base_model_option="fine-tuned"), "checkpoint is required with base_model_option='fine-tuned'"),
        (sft(checkpoint=-1), "checkpoint: "),
        (sft(train_test_split_ratio=0), "train_test_split_ratio: "),
        (sft(train_test_split_ratio=100), "train_test_split_ratio: "),
        (sft(task_type="translation"), "task_type: "),
        (sft(rebalance_data={"a": 0.5}), "rebalance_data is only for task_type='classification'"),
        (sft(rebalance_data={"a": -1}, task_type="classification"), "rebalance_data.a"),
        (sft(parameters={"learning_rate": 0}), r"parameters\.learning_rate: "),
        (sft(parameters={"dynamic_loss": "often"}), r"parameters\.dynamic_loss: "),
        (grpo(test_functions=[]), "test_functions: "),
        (grpo(test_functions="f"), "test_functions: "),
        (grpo(reward={}), "reward: "),
        (grpo(reward={"f": "much"}), r"reward\.f"),
        (grpo(reward={"f": float("nan")}), r"reward\.f"),
        (grpo(reward={"f": 1, "g": 2}), "reward has weights of g, which test_functions does not list"),
        (grpo(base_model_option="fine-tuned"), "checkpoint is required"),
        (grpo(parameters={"num_generations": 0}), r"parameters\.num_generations: "),
        (deploy(checkpoint=None), "checkpoint: Field required"),
        (deploy(checkpoint=0.5), "checkpoint: "),
        (deploy(inactive_timeout=0), "inactive_timeout: "),
        (deploy(schedule={"days": ["Monday"]}), r"schedule\.days\.0: "),
        (deploy(schedule={"days": []}), r"schedule\.days: "),
        (deploy(schedule={"start_time": "8:00"}), r"schedule\.start_time: "),
        (deploy(schedule={"end_time": "24:00"}), r"schedule\.end_time: "),
        (deploy(schedule={"timezone": "Berlin"}), r"schedule\.timezone: Input should be a time zone"),
        (deploy(schedule={"timezone": "/etc/passwd"}), r"schedule\.timezone: "),
        (
            deploy(inactive_timeout=5, schedule={"timezone": "UTC"}),
            "inactive_timeout and schedule exclude each other",
        ),
        (lambda: engines.create(base_model=""), "base_model: "),
        (
            lambda: engines.create(base_model="b", inactive_timeout=5, schedule={}),
            "inactive_timeout and schedule exclude each other",
        ),
        (lambda: engines.create(base_model="b", schedule={"end_time": "x"}), r"schedule\.end_time: "),
        (lambda: engines.undeploy("e", deployment_name=""), "deployment_name: "),
        (lambda: engines.engine(".."), "engine_id must not be '..'"),
        (
            lambda: engines.deploy("e", project_id="p", training_job_id="", checkpoint=1),
            "training_id: ",
        ),
        (lambda: projects.create(""), "name: "),
        (lambda: projects.project(""), "project_id must not be ''"),
        (lambda: models.model(" "), "base_model_name must not be ''"),
        (lambda: datasets.upload("ms-1", file=FILE, name=""), "name: "),
        (lambda: datasets.dataset("ms-1", None), "dataset_id must be a text"),
        (lambda: training.job("ms-1", ""), "training_job_id must not be ''"),
        (lambda: inference.complete(model="", prompt=SECRET), "model: "),
        (lambda: inference.complete(model="m", prompt=[SECRET]), "prompt: "),
        (lambda: inference.complete(model="m", prompt=SECRET, max_completion_tokens=0), "max_completion_"),
        (lambda: inference.complete(model="m", prompt=SECRET, temperature=-1), "temperature: "),
        (lambda: inference.complete(model="m", prompt=SECRET, top_p=1.1), "top_p: "),
        (lambda: inference.complete(model="m", prompt=SECRET, top_k=0), "top_k: "),
        (
            lambda: inference.chat(model="m", messages=[{"role": "robot", "content": SECRET}]),
            r"messages\.0\.role: ",
        ),
        (lambda: inference.compare(model="m", input=SECRET, target=None), "target: Field required"),
        (lambda: inference.classify(model="m", input=SECRET, data_format="percent"), "data_format: "),
    ],
)
def test_the_error_names_an_invalid_argument(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_arguments_are_passed_to_the_platform():
    call = training.train(
        "ms-1",
        base_model="b",
        train_dataset_id="d",
        parameters={"brand_new": {"a": None}},
        extra={"priority": "low", "base_model": "loses against the argument"},
    )
    assert call.json == {
        "base_model": "b",
        "train_dataset_id": "d",
        "parameters": {"brand_new": {"a": None}},
        "priority": "low",
    }


def test_an_engine_takes_the_same_times_as_a_deployment():
    timeout = engines.create(base_model="b", inactive_timeout=60).json["resource_management_config"]
    assert timeout == {"management_type": "inactive_timeout", "management_config": {"inactive_duration": 60}}
    schedule = engines.create(base_model="b", schedule={"timezone": "UTC"}).json["resource_management_config"]
    assert schedule == {"management_type": "schedule", "management_config": {"timezone": "UTC"}}
    assert "resource_management_config" not in engines.create(base_model="b").json


def test_a_whole_percentage_is_sent_as_a_whole_number():
    assert sft(train_test_split_ratio=20)().json["train_test_split_ratio"] == 20
    assert isinstance(sft(train_test_split_ratio=20)().json["train_test_split_ratio"], int)


def test_calls_do_not_show_prompts():
    assert SECRET not in repr(inference.complete(model="m", prompt=SECRET))
