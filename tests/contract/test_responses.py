"""Our models read every form of a response that the platform's pages describe; here on tuning, datasets, models."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.platforms.lamini.api import datasets, evaluation, models, training, version
from tests.support.contract import STATES, read


def test_the_examples_of_the_api_description_are_parsed(call_with_example, example):
    assert read(call_with_example, example(call_with_example))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("job_id", [123, "123"])
def test_a_tuning_job_keeps_the_platforms_status_word_and_has_a_text_as_id(state, job_id):
    found = read(training.job(123), {"job_id": job_id, "status": state})
    assert (found.job_id, found.status) == ("123", state)
    started = read(training.train(model_name="m"), {"job_id": job_id, "status": state})
    assert (started.job_id, started.status) == ("123", state)


def test_a_complete_tuning_job_is_parsed():
    history = [
        {"loss": 2.5, "learning_rate": 9e-4, "epoch": 0.5, "step": 10, "remaining_time": 55.5, "new": 1}
    ]
    found = read(
        training.job(5),
        {
            "job_id": 5,
            "status": "COMPLETED",
            "dataset_id": None,
            "model_name": "a" * 64,
            "custom_model_name": None,
            "start_time": "2025-01-01T00:00:00",
            "is_public": False,
            "history": json.dumps(history),
            "resume_count": 1,
            "resume_limit": 10,
            "from_a_newer_server": {"a": 1},
        },
    )
    (step,) = found.steps()
    assert (step.step, step.loss, step.remaining_time) == (10, 2.5, 55.5)
    assert (found.resume_count, found.resume_limit, found.model_name) == (1, 10, "a" * 64)


@pytest.mark.parametrize(
    ("history", "losses"),
    [
        ('[{"loss": 1.5}, {"loss": 1.0}]', [1.5, 1.0]),
        ([{"loss": 1.5}], [1.5]),
        ('[{"loss": 1.5}, {"loss": "broken"}, 7, {"loss": 0.5}]', [1.5, 0.5]),
        ("", []),
        (None, []),
        ("[{", []),
        ("{}", []),
        ("5", []),
        ("[" * 100_000, []),
    ],
)
def test_an_invalid_history_never_fails_a_poll(history, losses):
    found = read(training.job(5), {"job_id": 5, "status": "TRAINING MODEL", "history": history})
    assert [step.loss for step in found.steps()] == losses


def test_a_loss_of_nan_is_parsed():
    (step,) = read(training.job(5), {"job_id": 5, "status": "x", "history": '[{"loss": NaN}]'}).steps()
    assert step.loss != step.loss


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"jobs": rows}], ids=["bare", "wrapped"])
def test_all_tuning_jobs_are_listed(wrap):
    rows = [{"job_id": 1, "status": "QUEUED"}, {"job_id": "2", "status": "FAILED"}]
    found = read(training.list_jobs(), wrap(rows))
    assert [(job.job_id, job.status) for job in found] == [("1", "QUEUED"), ("2", "FAILED")]
    assert read(training.list_jobs(), wrap([])) == []


@pytest.mark.parametrize("call", [training.cancel(1), training.resume(1)], ids=lambda call: call.operation)
@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"status": "CANCELLED"}, "CANCELLED"),
        ({}, None),
        ("CANCELLED", "CANCELLED"),
        (None, None),
        (b"", None),
    ],
)
def test_cancelling_and_resuming_return_a_status_if_the_platform_sends_one(call, body, state):
    assert read(call, body) == state


@pytest.mark.parametrize("body", [{"cancelled": [1, 2]}, [], b""])
def test_cancelling_all_jobs_accepts_any_response(body):
    read(training.cancel_all(), body)


def test_an_evaluated_tuning_job_is_parsed():
    outputs = [{"model_name": "base", "output": "a"}, {"model_name": "tuned", "output": "b"}]
    found = read(training.evaluation(1), {"job_id": 1, "eval_results": [{"input": "i", "outputs": outputs}]})
    assert found.job_id == "1"
    assert found.eval_results[0].outputs[1].output == "b"
    assert read(training.evaluation(1), {}).eval_results == []


def test_datasets_for_tuning_are_parsed():
    assert read(datasets.upload_base_path(), {"upload_base_path": "azure"}).azure
    assert not read(datasets.upload_base_path(), {"upload_base_path": "/app/data"}).azure
    made = {"dataset_id": "d", "dataset_location": "/data/d"}
    for call in (
        datasets.create(upload_base_path="x"),
        datasets.upload(upload_base_path="x", data=[{"input": "i"}]),
    ):
        assert read(call, made).dataset_location == "/data/d"
    location = read(datasets.existing(dataset_id="d", upload_base_path="x"), {"dataset_location": "/data/d"})
    assert location.dataset_location == "/data/d"


@pytest.mark.parametrize("slash", [True, False])
@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"models": rows}], ids=["bare", "wrapped"])
def test_downloaded_models_are_listed(slash, wrap):
    row = {
        "model_id": 3,
        "model_name": "org/m",
        "model_type": "transformer",
        "user_id": "7",
        "status": "available",
    }
    (found,) = read(models.list_downloaded(trailing_slash=slash), wrap([row]))
    assert (found.model_id, found.user_id, found.status) == ("3", "7", "available")
    (bare,) = read(
        models.list_downloaded(trailing_slash=slash), wrap([{"model_name": "x", "model_type": "new"}])
    )
    assert bare.status is None


def test_a_download_has_a_status():
    found = read(
        models.download("m"), {"model_name": "m", "model_type": "embedding", "status": "downloading"}
    )
    assert found.status == "downloading"


def test_the_version_is_parsed():
    apis = [{"name": "v1", "path": "/v1"}]
    found = read(version.version(), {"server": "1.13.6", "client": "3.4.6", "api": apis})
    assert (found.server, found.api[0].path) == ("1.13.6", "/v1")
    assert read(version.version(), {}).server is None


def test_an_evaluation_is_parsed():
    call = evaluation.run(
        test_model_id="m", test_eval_type="t", eval_data=[{"input": "i", "target": "t"}], eval_data_id="d"
    )
    prediction = {"input": "i", "target": "t", "test_output": "t", "base_output": None}
    found = read(
        call,
        {
            "eval_job_id": 4,
            "metrics": {"tuned": {"f1": 0.9}},
            "status": "COMPLETED",
            "predictions": [prediction],
        },
    )
    assert found.eval_job_id == "4"
    assert found.metrics == {"tuned": {"f1": 0.9}}
    assert found.predictions[0].test_output == "t"
