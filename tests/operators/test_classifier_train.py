"""A classifier project is created or extended, and trained once, whatever happens to the task."""

from __future__ import annotations

import asyncio

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.api.errors import BadRequestError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator
from tests.support.tasks import WAITING, begin, log_lines, maker, run_to_end
from tests.support.tuning_platform import LinkedTask

pytestmark = pytest.mark.any_airflow

CLASSES = {"spam": "offers that nobody asked for", "ham": "mail between people"}
EXAMPLES = {"spam": ["buy now", "win big"], "ham": ["see you at noon"]}
ROWS = [{"text": text, "class": name} for name, texts in EXAMPLES.items() for text in texts]
INITIALIZE, ADD, TRAIN = (f"/v2/classifier/{what}" for what in ("initialize", "add", "train"))
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)
NEXT = LinkedTask(run_id="run-2")


class QuickTrain(LaminiClassifierTrainOperator):
    """Searches for an orphaned job without a delay."""

    list_delay = 0.05


@pytest.fixture
def train(knowledge, tmp_path):  # noqa: ARG001 - the operator sends requests to it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        QuickTrain,
        task_id="train",
        project="mail",
        model_name="base-model",
        classes=CLASSES,
        examples=EXAMPLES,
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_new_project_is_created(knowledge, train, deferrable):
    ended = run_to_end(train(deferrable=deferrable))
    assert ended.result == {
        "project": "mail",
        "job_id": "c1",
        "model_id": "model-c1",
        "status": "COMPLETED",
        "classes": 2,
        "examples": 3,
        "created": 1,
        "failures": {},
    }
    assert knowledge.sent(INITIALIZE) == [
        {"name": "mail", "model_name": "base-model", "classes": CLASSES, "examples": EXAMPLES}
    ]
    assert knowledge.sent(ADD) == knowledge.sent(TRAIN) == []


def test_an_existing_project_gets_the_examples_and_is_trained_again(knowledge, train):
    knowledge.projects["mail"] = {"older": {"ham": ["x"]}}
    ended = run_to_end(train(classes=None, model_name=None))
    assert (ended.result["model_id"], ended.result["created"]) == ("model-c1", 0)
    ((name, examples),) = [item for item in knowledge.projects["mail"].items() if item[0] != "older"]
    assert name.startswith("examples-")
    assert examples == EXAMPLES
    assert knowledge.sent(TRAIN) == [{"name": "mail"}]
    assert knowledge.sent(INITIALIZE) == []


def test_the_next_run_does_not_add_the_same_examples_again(knowledge, train):
    knowledge.projects["mail"] = {}
    run_to_end(train())
    assert run_to_end(train(), NEXT).result["job_id"] == "c2"
    assert len(knowledge.sent(ADD)) == 1
    run_to_end(train(examples={"ham": ["something new"]}), LinkedTask(run_id="run-3"))
    assert len(knowledge.projects["mail"]) == 2


def test_a_dataset_with_a_custom_name_is_added_once(knowledge, train):
    knowledge.projects["mail"] = {}
    run_to_end(train(dataset_name="monday"))
    run_to_end(train(dataset_name="monday"), NEXT)
    assert knowledge.projects["mail"] == {"monday": EXAMPLES}


def test_examples_are_optional(knowledge, train):
    run_to_end(train(examples=None))
    assert "examples" not in knowledge.sent(INITIALIZE)[0]
    assert run_to_end(train(examples=None), NEXT).result["created"] == 0
    assert knowledge.sent(ADD) == []


def test_examples_can_be_rows_or_files(knowledge, train, tmp_path):
    run_to_end(train(examples=ROWS))
    table = tmp_path / "examples.csv"
    table.write_text("kind,mail,more\n" + "".join(f"{row['class']},{row['text']},1\n" for row in ROWS))
    knowledge.projects.clear()
    run_to_end(train(examples=str(table), prompt="mail", answer="{kind}"), NEXT)
    assert [body["examples"] for body in knowledge.sent(INITIALIZE)] == [EXAMPLES] * 2


def test_classes_can_be_json_from_a_template(knowledge, train):
    run_to_end(train(classes='{"spam": "offers", "ham": "mail"}'))
    assert knowledge.sent(INITIALIZE)[0]["classes"] == {"spam": "offers", "ham": "mail"}


def test_an_existing_project_fails_the_task_if_the_user_says_so(knowledge, train):
    knowledge.projects["mail"] = {}
    with pytest.raises(InvalidArgumentError, match="exists already"):
        run_to_end(train(on_existing="fail"))
    assert knowledge.trainings == {}
    knowledge.projects.clear()
    run_to_end(train(on_existing="fail"))
    assert len(knowledge.trainings) == 1


@pytest.mark.parametrize("missing", ["classes", "model_name"])
def test_a_project_cannot_be_created_without_classes_and_model(knowledge, train, missing):
    with pytest.raises(InvalidArgumentError, match="give classes and model_name"):
        run_to_end(train(**{missing: None}))
    assert knowledge.trainings == {}


def test_the_model_is_looked_up_in_the_project_if_the_status_does_not_name_it(knowledge, train):
    knowledge.names_models = False
    assert run_to_end(train()).result["model_id"] == "model-c1"


def test_a_job_without_a_model_fails_the_task(knowledge, train):
    knowledge.names_models = False
    knowledge.lists_models = False
    with pytest.raises(JobFailedError, match="job c1 ended well, but the platform names no model"):
        run_to_end(train())
    knowledge.lists_models = True
    assert run_to_end(train()).result["model_id"] == "model-c1"


@pytest.mark.parametrize(
    ("state", "error"),
    [("FAILED", JobFailedError), ("cancelled", JobCancelledError), ("timed_out", JobTimedOutError)],
)
def test_a_failed_job_fails_the_task_and_a_retry_submits_a_new_one(knowledge, train, state, error):
    knowledge.script = [("CREATED", state), ("COMPLETED",)]
    with pytest.raises(error, match=f"Classifier job c1 ended as {state}"):
        run_to_end(train())
    ended = run_to_end(train())
    assert ended.result["job_id"] == "c2"
    assert len(knowledge.sent(INITIALIZE)) == 1  # the project exists by then, and is trained again
    assert len(knowledge.sent(TRAIN)) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_error_has_the_platforms_reason(knowledge, train, deferrable):
    knowledge.script = [("CREATED", "FAILED")]
    knowledge.reason = "a class needs two examples"
    with pytest.raises(
        JobFailedError, match=r"job c1 ended as FAILED: a class needs two examples\. It no longer"
    ):
        run_to_end(train(deferrable=deferrable))


def test_a_retry_attaches_to_the_running_job(knowledge, train):
    knowledge.script = [SLOW]
    begin(train())
    knowledge.trainings["c1"].states = ["COMPLETED"]
    assert run_to_end(train()).result["job_id"] == "c1"
    assert len(knowledge.trainings) == 1


@pytest.mark.parametrize("exists", [True, False])
def test_a_job_whose_id_was_lost_is_found_in_the_projects_list(knowledge, train, exists):
    if exists:
        knowledge.projects["mail"] = {}
        run_to_end(train(), LinkedTask(run_id="run-0"))
    before = len(knowledge.trainings)
    knowledge.lose.append(TRAIN if exists else INITIALIZE)
    with pytest.raises(UnavailableError, match="may"):
        run_to_end(train())
    assert run_to_end(train()).result["job_id"] == f"c{before + 1}"
    assert len(knowledge.trainings) == before + 1


def test_examples_are_not_added_twice_after_a_lost_response(knowledge, train):
    knowledge.projects["mail"] = {}
    knowledge.lose.append(ADD)
    with pytest.raises(UnavailableError):
        run_to_end(train())
    run_to_end(train())
    assert len(knowledge.sent(ADD)) == 1
    assert len(knowledge.trainings) == 1


def test_a_submission_that_never_arrived_is_repeated(knowledge, train):
    """A proxy answered instead of the platform."""
    knowledge.fail[INITIALIZE] = [(504, "proxy")]
    with pytest.raises(UnavailableError):
        run_to_end(train())
    assert run_to_end(train()).result["job_id"] == "c1"


def test_two_new_jobs_are_left_to_the_user(knowledge, train):
    knowledge.projects["mail"] = {}
    knowledge.lose.append(TRAIN)
    with pytest.raises(UnavailableError):
        run_to_end(train())
    knowledge._start("mail")
    with pytest.raises(JobLostError, match="may have been started"):
        run_to_end(train())
    assert len(knowledge.trainings) == 2


def test_a_refusal_leaves_no_record(knowledge, train):
    knowledge.fail[INITIALIZE] = [(400, "no such model")]
    with pytest.raises(BadRequestError, match="no such model"):
        run_to_end(train())
    assert run_to_end(train()).result["job_id"] == "c1"


def test_changed_arguments_cancel_the_job_and_submit_a_new_one(knowledge, train):
    knowledge.script = [SLOW, ("COMPLETED",)]
    begin(train())
    assert run_to_end(train(examples={"ham": ["other"]})).result["job_id"] == "c2"
    assert knowledge.trainings["c1"].states == ["CANCELLED"]


def test_killing_the_task_cancels_the_job(knowledge, train):
    knowledge.script = [SLOW]
    with log_lines() as lines:
        asyncio.run(begin(train()).make_trigger().on_kill())
    assert knowledge.trainings["c1"].states == ["CANCELLED"]
    assert "Cancelled classifier job c1." in lines


def test_a_killed_worker_cancels_the_job_if_cancel_on_kill_is_on(knowledge, train):
    knowledge.script = [SLOW]
    for number, cancels in enumerate((False, True), 1):
        operator = train(cancel_on_kill=cancels)()
        with pytest.raises(TaskDeferred):
            operator.execute({"ti": LinkedTask(run_id=str(number))})
        operator.on_kill()
        assert (knowledge.trainings[f"c{number}"].states == ["CANCELLED"]) is cancels


def test_a_job_cancelled_by_the_kill_of_the_previous_try_is_submitted_again(knowledge, train):
    """Airflow starts the new try without waiting for the kill of the old one."""
    knowledge.script = [SLOW, ("COMPLETED",)]
    first = begin(train())
    second = begin(train())
    asyncio.run(first.make_trigger().on_kill())
    assert second.wait()["ended"]["c1"]["state"] == "cancelled"
    assert run_to_end(train()).result["job_id"] == "c2"


def test_after_the_timeout_a_retry_attaches(knowledge, train):
    knowledge.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="may still run and bill"):
        run_to_end(train(timeout=1))
    knowledge.trainings["c1"].states = ["COMPLETED"]
    assert run_to_end(train()).result["job_id"] == "c1"


def test_without_waiting_the_job_id_is_returned_at_once(knowledge, train):
    knowledge.script = [SLOW]
    ended = run_to_end(train(wait=False))
    numbers = {"classes": 2, "examples": 3, "created": 1, "failures": {}}
    assert ended.result == {"project": "mail", "job_id": "c1", **numbers}
    assert ended.deferrals == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"project": ""},
        {"project": 5},
        {"model_name": " "},
        {"classes": {}},
        {"classes": ["spam"]},
        {"classes": "spam, ham"},
        {"classes": {"spam": ""}},
        {"classes": {"spam": 5}},
        {"classes": {"": "nothing"}},
        {"classes": None, "on_existing": "fail"},
        {"examples": {"eggs": ["x"]}},
        {"examples": {"ham": [" "]}},
        {"examples": {"ham": "one text"}},
        {"examples": []},
        {"examples": "missing.csv"},
        {"examples": [{"text": "x"}]},
        {"prompt": ""},
        {"answer": None},
        {"dataset_name": ""},
        {"on_existing": "replace"},
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent(knowledge, train, wrong):
    with pytest.raises(InvalidArgumentError):
        run_to_end(train(**wrong))
    assert not knowledge.request_counts


def test_neither_examples_nor_the_key_are_in_the_log_or_the_record(knowledge, train, tmp_path):
    knowledge.projects["mail"] = {}
    with log_lines() as lines:
        run_to_end(train())
    texts = [*lines, *(path.read_text() for path in (tmp_path / "state").iterdir())]
    assert lines
    assert not [text for text in texts if "buy now" in text or knowledge.key in text]
