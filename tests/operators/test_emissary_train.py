"""Projects, datasets, training and checkpoints on Emissary."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_lamini.api.errors import AuthenticationError, NotFoundError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobFailedError,
    JobLostError,
    KeyRefusedError,
    ThresholdMissedError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.emissary.choose_checkpoint import EmissaryChooseCheckpointOperator
from airflow_provider_lamini.operators.emissary.project import (
    EmissaryDeleteProjectOperator,
    EmissaryProjectOperator,
)
from airflow_provider_lamini.operators.emissary.train import EmissaryGRPOTrainOperator, EmissaryTrainOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from tests.support.emissary_platform import LOSSES
from tests.support.tasks import TI, WAITING, begin, maker, resume, run_to_end

pytestmark = pytest.mark.any_airflow

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(4)]
TRAINING = "/v1/projects/ms-1/training-jobs"
DATASETS = "/v1/projects/ms-1/datasets"


class QuickUpload(EmissaryUploadDatasetOperator):
    list_delay = 0.05


class QuickTrain(EmissaryTrainOperator):
    list_delay = 0.05


class QuickGRPO(EmissaryGRPOTrainOperator):
    list_delay = 0.05


@pytest.fixture
def upload(emissary, tmp_path):  # noqa: ARG001 - the connection points to it
    return maker(
        QuickUpload,
        task_id="upload",
        project_id="ms-1",
        input=ROWS,
        state_path=str(tmp_path / "s"),
        **WAITING,
    )


@pytest.fixture
def train(emissary, tmp_path):
    emissary.new("dataset", ("uploaded",))
    return maker(
        QuickTrain,
        task_id="train",
        project_id="ms-1",
        base_model="base",
        dataset_id="ds-1",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.fixture
def choose(emissary):
    emissary.new("training", ("Success",))
    return maker(
        EmissaryChooseCheckpointOperator, task_id="choose", project_id="ms-1", training_job_id="tr-1"
    )


# ---- projects --------------------------------------------------------------------------------------------------


def test_a_project_is_created_once_and_then_found(emissary):
    project = maker(EmissaryProjectOperator, task_id="project", name="news")
    assert run_to_end(project()).result == {"project_id": "ms-2", "name": "news", "new": True}
    assert run_to_end(project()).result == {"project_id": "ms-2", "name": "news", "new": False}
    assert emissary.request_counts["POST /v1/projects"] == 1


def test_a_project_whose_answer_was_lost_is_found_by_the_retry(emissary):
    project = maker(EmissaryProjectOperator, task_id="project", name="news")
    emissary.lose = ["POST /v1/projects"]
    with pytest.raises(UnavailableError):
        run_to_end(project())
    assert run_to_end(project()).result["new"] is False


def test_a_name_of_several_projects_is_refused(emissary):
    emissary.projects |= {"ms-2": "news", "ms-3": "news"}
    with pytest.raises(InvalidArgumentError, match="2 projects have the name 'news': ms-2, ms-3"):
        run_to_end(maker(EmissaryProjectOperator, task_id="p", name="news")())


def test_a_project_is_deleted_with_what_it_holds_only_if_asked(emissary):
    emissary.new("dataset", ("uploaded",))
    delete = maker(EmissaryDeleteProjectOperator, task_id="delete", project_id="ms-1")
    with pytest.raises(InvalidArgumentError, match=r"ms-1 holds 1 dataset\. Set delete_contents=True"):
        run_to_end(delete())
    assert "ms-1" in emissary.projects
    assert run_to_end(delete(delete_contents=True)).result == {"project_id": "ms-1", "deleted": True}
    assert run_to_end(delete()).result == {"project_id": "ms-1", "deleted": False}


def test_a_wrong_address_is_not_taken_for_something_that_is_gone(emissary, monkeypatch):
    fields = {"conn_type": "emissary", "host": f"{emissary.url}/wrong", "password": emissary.key}
    monkeypatch.setenv("AIRFLOW_CONN_EMISSARY_DEFAULT", json.dumps(fields))
    with pytest.raises(NotFoundError, match="address"):
        run_to_end(maker(EmissaryDeleteProjectOperator, task_id="delete", project_id="ms-1")())


# ---- datasets --------------------------------------------------------------------------------------------------


def test_a_dataset_that_the_platform_does_not_finish_is_named(emissary, upload):
    emissary.scripts.dataset = ("uploading",)
    with pytest.raises(WaitTimeoutError, match=r"The dataset upload ms-1/ds-1 "):
        run_to_end(upload(timeout=1.5))
    assert list(emissary.datasets) == ["ds-1"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_rows_become_a_dataset_and_the_task_waits_until_it_can_be_used(emissary, upload, deferrable):
    emissary.scripts.dataset = ("uploading", "uploading", "uploaded")
    ended = run_to_end(upload(prompt="Say: {input}", deferrable=deferrable))
    (dataset,) = emissary.datasets.values()
    lines = [json.loads(line) for line in dataset.fields["content"].splitlines()]
    assert lines[1] == {"prompt": "Say: question 1", "completion": "answer 1"}
    assert ended.result == {
        "job_id": "ms-1/ds-1",
        "project_id": "ms-1",
        "dataset_id": "ds-1",
        "rows": 4,
        "bytes": len(dataset.fields["content"]),
        "failures": {},
    }
    assert dataset.state == "uploaded"
    assert len(ended.deferrals) == deferrable


def test_the_fields_of_a_dataset_can_be_named(emissary, upload):
    run_to_end(upload(prompt_field="text", answer_field="label"))
    (dataset,) = emissary.datasets.values()
    assert json.loads(dataset.fields["content"].splitlines()[0]) == {
        "text": "question 0",
        "label": "answer 0",
    }


def test_a_dataset_above_5_mb_is_refused_before_anything_is_sent(emissary, upload):
    rows = [{"input": "x" * 50_000, "output": "y"}] * 101
    with pytest.raises(
        InvalidArgumentError, match=r"too large: 5,\d+,\d+ bytes .* at most 5,000,000"
    ) as caught:
        run_to_end(upload(input=rows))
    assert "web pages" in str(caught.value)
    assert not emissary.datasets
    assert emissary.request_counts[f"POST {DATASETS}"] == 0


def test_a_dataset_whose_answer_was_lost_is_found_by_its_name(emissary, upload):
    emissary.lose = [f"POST {DATASETS}"]
    with pytest.raises(UnavailableError):
        run_to_end(upload(), TI)
    assert run_to_end(upload(), TI.retried()).result["dataset_id"] == "ds-1"
    assert len(emissary.datasets) == 1


# ---- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_model_is_trained_and_its_losses_are_written(emissary, train, tmp_path, deferrable):
    ended = run_to_end(train(name="nightly", output=str(tmp_path / "out"), deferrable=deferrable))
    history = tmp_path / "out" / "loss_history.jsonl"
    assert ended.result == {
        "job_id": "ms-1/tr-1",
        "project_id": "ms-1",
        "training_job_id": "tr-1",
        "base_model": "base",
        "status": "Success",
        "name": "nightly",
        "final_loss": 1.25,
        "history": str(history),
    }
    assert [json.loads(line) for line in history.read_text().splitlines()] == LOSSES
    assert emissary.sent(TRAINING) == [{"base_model": "base", "train_dataset_id": "ds-1", "name": "nightly"}]
    assert len(ended.deferrals) == deferrable


def test_all_arguments_are_sent(emissary, train):
    emissary.new("dataset", ("uploaded",))
    run_to_end(
        train(
            base_model_option="fine-tuned",
            checkpoint="200",
            test_dataset_id="ds-2",
            train_test_split_ratio="20",
            test_functions=["accuracy"],
            name="n",
            description="d",
            model_task="classification",
            parameters='{"num_train_epochs": 3, "new": [1]}',
            rebalance_data={"spam": 0.5},
            hf_model_link="https://hub.test/m",
        )
    )
    assert emissary.sent(TRAINING) == [
        {
            "base_model_option": "fine-tuned",
            "base_model": "base",
            "checkpoint": 200,
            "train_dataset_id": "ds-1",
            "test_dataset_id": "ds-2",
            "train_test_split_ratio": 20,
            "test_functions": ["accuracy"],
            "name": "n",
            "description": "d",
            "task_type": "classification",
            "parameters": {"num_train_epochs": 3, "new": [1]},
            "rebalance_data": {"spam": 0.5},
            "hf_model_link": "https://hub.test/m",
        }
    ]


def test_a_model_is_trained_with_rewards(emissary, train):
    arguments = {"test_functions": ["accuracy", "brevity"], "reward": {"accuracy": 0.8, "brevity": 0.2}}
    result = run_to_end(train(operator=QuickGRPO, **arguments)).result
    assert result["status"] == "Success"
    (sent,) = emissary.sent(f"{TRAINING}/grpo")
    assert {name: sent[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    ("operator", "arguments", "words"),
    [
        (QuickGRPO, {"test_functions": ["wit"], "reward": {"wit": 1}}, "no wit, only accuracy, brevity"),
        (QuickTrain, {"test_functions": ["accuracy", "wit"]}, "the platform has no wit"),
        (QuickGRPO, {"test_functions": ["accuracy"], "reward": {"wit": 1}}, "weights of wit"),
        (QuickTrain, {"base_model_option": "fine-tuned"}, "checkpoint is required"),
        (QuickTrain, {"rebalance_data": {"a": 1}}, "only for model_task='classification'"),
        (QuickTrain, {"train_test_split_ratio": 0.2e3}, "percentage above 0 and below 100"),
    ],
)
def test_wrong_arguments_are_refused_before_the_submission(emissary, train, operator, arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        run_to_end(train(operator=operator, **arguments))
    assert not emissary.trainings


def test_a_retry_attaches_to_the_job(emissary, train):
    begin(train(), TI)
    assert run_to_end(train(), TI.retried()).result["training_job_id"] == "tr-1"
    assert len(emissary.trainings) == 1


@pytest.mark.parametrize("name", [None, "nightly"])
def test_a_job_whose_answer_was_lost_is_found_by_its_name(emissary, train, name):
    emissary.new("training", ("Running",), name="nightly")
    emissary.new("training", ("Running",), name="another task's")
    emissary.lose = [f"POST {TRAINING}"]
    with pytest.raises(UnavailableError) as failed:
        run_to_end(train(name=name), TI)
    assert failed.value.may_have_started
    assert run_to_end(train(name=name), TI.retried()).result["training_job_id"] == "tr-3"
    assert len(emissary.trainings) == 3


def test_a_job_that_never_reached_the_platform_is_submitted_again(emissary, train):
    emissary.drop = [TRAINING]
    with pytest.raises(UnavailableError):
        run_to_end(train(), TI)
    assert run_to_end(train(), TI.retried()).result["training_job_id"] == "tr-1"


@pytest.mark.parametrize(("end", "words"), [("Failed", "ended as Failed"), ("TimedOut", "ended as TimedOut")])
def test_a_job_that_did_not_succeed_fails_the_task(emissary, train, end, words):
    emissary.scripts.training = ("Running", end)
    with pytest.raises(Exception, match=words):
        run_to_end(train())


def test_a_task_whose_timeout_has_passed_cancels_its_job(emissary, train):
    emissary.scripts.training = ("Running",)
    with pytest.raises(WaitTimeoutError, match="ms-1/tr-1 is cancelled"):
        run_to_end(train(timeout=1.5), TI.retried())
    assert emissary.trainings["tr-1"].state == "Cancelled"


def test_a_rejected_key_is_one_clear_error(emissary, train):
    deferral = begin(train())
    emissary.key = "rotated"
    with pytest.raises(KeyRefusedError, match=r"401 \(the key is missing or wrong\): wrong key") as caught:
        resume(train(), deferral, deferral.wait())
    assert "may still run and bill" in str(caught.value)
    with pytest.raises(AuthenticationError, match="Check the key"):
        run_to_end(train(force_new=True))


def test_a_project_that_is_deleted_under_a_running_job_is_one_clear_error(emissary, train):
    emissary.scripts.training = ("Running",)
    deferral = begin(train())
    del emissary.projects["ms-1"]
    event = deferral.wait(submitted_at=0.0)
    with pytest.raises(JobLostError, match="Its project ms-1 no longer exists") as caught:
        resume(train(), deferral, event)
    assert "A retry submits" not in str(caught.value)


# ---- checkpoints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "checkpoint", "value"),
    [
        ({}, 200, None),
        ({"checkpoint": "100"}, 100, None),
        ({"metric": "accuracy"}, 100, 0.75),
        ({"metric": "accuracy", "mode": "min"}, 200, 0.70),
        ({"checkpoint": 200, "metric": "accuracy"}, 200, 0.70),
    ],
)
def test_a_checkpoint_is_chosen(choose, arguments, checkpoint, value):
    result = run_to_end(choose(**arguments)).result
    assert (result["checkpoint"], result["value"], result["passed"]) == (checkpoint, value, True)
    assert result["job_id"] == "ms-1/tr-1"


@pytest.mark.parametrize(
    ("arguments", "met"),
    [
        ({"threshold": 0.75}, True),
        ({"threshold": "0.8"}, False),
        ({"threshold": 0.7, "mode": "min"}, True),
        ({"threshold": 0.6, "mode": "min"}, False),
    ],
)
def test_a_threshold_fails_skips_or_returns(choose, arguments, met):
    arguments = {"metric": "accuracy"} | arguments
    assert run_to_end(choose(**arguments, gate="return")).result["passed"] is met
    for gate, error in (("fail", ThresholdMissedError), ("skip", AirflowSkipException)):
        if met:
            assert run_to_end(choose(**arguments, gate=gate)).result["passed"]
        else:
            with pytest.raises(
                error, match=r"accuracy of checkpoint \d00 is 0\.7\d? \(at (least|most) 0\.\d is required\)"
            ):
                run_to_end(choose(**arguments, gate=gate))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"checkpoint": 300}, "there is no 300, only 100, 200"),
        ({"metric": "wit"}, "no number for 'wit'; test results that are numbers: accuracy"),
        ({"checkpoint": 100, "metric": "wit"}, "no number for 'wit'"),
        ({"threshold": 1}, "threshold needs a metric"),
    ],
)
def test_what_the_platform_does_not_have_is_refused(choose, arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        run_to_end(choose(**arguments))


def test_test_results_that_are_no_numbers_are_left_out(emissary, choose):
    emissary.checkpoints[0]["test_results"]["aggregated_test_result"]["accuracy"] = "n/a"
    del emissary.checkpoints[1]["test_results"]
    emissary.checkpoints.append(
        {"checkpoint": 300, "test_results": {"aggregated_test_result": {"accuracy": 0.5}}}
    )
    assert run_to_end(choose(metric="accuracy")).result["checkpoint"] == 300


def test_a_job_without_checkpoints_is_refused(emissary, choose):
    emissary.checkpoints.clear()
    with pytest.raises(InvalidArgumentError, match="Training job tr-1 has no checkpoint"):
        run_to_end(choose())


def test_a_failed_job_says_so(emissary, train):
    emissary.scripts.training = ("Failed",)
    with pytest.raises(JobFailedError, match="Training job ms-1/tr-1 ended as Failed"):
        run_to_end(train())
