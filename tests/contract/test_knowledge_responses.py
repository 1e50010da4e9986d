"""Our models read every form of a response about indexes and classifiers that the platform's pages describe."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.platforms.lamini.api import classifier_projects, classifiers, memory_rag
from tests.support.contract import STATES, read


@pytest.mark.parametrize("call", [memory_rag.status("1"), memory_rag.status_by_query("1")])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"outputs": state}], ids=["flat", "nested"]
)
def test_the_status_of_an_index_is_parsed_flat_or_nested(call, state, wrap):
    assert read(call, wrap({"status": state})) == state


@pytest.mark.parametrize("detail", ["broken.pdf cannot be read", None, "", {"a": 1}])
def test_the_reason_of_a_failed_index_is_parsed_if_it_is_a_text(detail):
    told = read(memory_rag.job("1"), {"outputs": {"status": "FAILED", "detail": detail}}).detail
    assert told == (detail if isinstance(detail, str) and detail else None)


@pytest.mark.parametrize("body", [{}, {"outputs": {}}, {"outputs": "x"}, {"status": None}, [], None, b""])
def test_an_index_without_a_status_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        read(memory_rag.status("1"), body)


@pytest.mark.parametrize(
    "body", [{"job_id": 1, "status": "CREATED"}, {"outputs": {"job_id": "1", "status": "CREATED"}}]
)
def test_a_started_index_is_parsed(body):
    found = read(memory_rag.add_index(prompt="p", job_id=1), body)
    assert (found.job_id, found.status) == ("1", "CREATED")


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        (
            [{"Question 1": "q1", "Answer 1": "a1"}, {"Question 2": "q2", "Answer 2": "a2"}],
            [("q1", "a1"), ("q2", "a2")],
        ),
        ([{"Question 1": "q1", "Answer 1": "a1", "Question 2": "q2"}], [("q1", "a1"), ("q2", None)]),
        ({"suggestions": [{"question": "q", "answer": "a"}]}, [("q", "a")]),
        ([], []),
        ([{"other": 1}], []),
    ],
)
def test_suggestions_are_parsed_as_pairs(body, pairs):
    found = read(memory_rag.suggestions(1), body)
    assert [(each.question, each.answer) for each in found] == pairs


def test_a_training_log_is_parsed():
    assert read(memory_rag.training_log(1), ["one", "two"]) == ["one", "two"]
    assert read(memory_rag.training_log(1), {"training_log": ["one"]}) == ["one"]


@pytest.mark.parametrize(
    ("body", "job_id", "state", "model"),
    [
        ({"status": "completed", "model_id": "u-1"}, "j", "completed", "u-1"),
        ({"job_id": "j2", "status": "TRAINING_MODEL", "model_id": None}, "j2", "TRAINING_MODEL", None),
        ({"job_id": 9, "status": "FAILED", "error": "why"}, "9", "FAILED", None),
        ({"outputs": {"status": "CREATED"}}, "j", "CREATED", None),
        ({"job_id": "j"}, "j", None, None),
        ({"model_id": "u-1"}, "j", None, "u-1"),
    ],
)
def test_the_status_of_a_classifier_job_is_parsed(body, job_id, state, model):
    found = read(classifiers.status("j"), body)
    assert (found.job_id, found.status, found.model_id) == (job_id, state, model)


@pytest.mark.parametrize("body", [{}, {"detail": "hm"}, [], {"status": 5.5, "model_id": {}}])
def test_a_classifier_job_without_a_status_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        read(classifiers.status("j"), body)


def test_a_started_classifier_is_parsed():
    for call in (
        classifiers.initialize(name="n", model_name="m", classes={"a": "about a"}),
        classifiers.train(name="n"),
    ):
        assert read(call, {"job_id": "j"}).job_id == "j"
        assert read(call, {"job_id": 4, "status": "CREATED"}).job_id == "4"


@pytest.mark.parametrize("ask", [classifiers.classify, classifiers.classify_v1])
def test_classes_are_parsed_as_one_list_per_text(ask):
    scores = [
        {"class_id": 1, "class_name": "a", "prob": 0.9},
        {"class_name": "b", "prob": 0.1, "metadata": {}},
    ]
    found = read(ask(model_id="m", prompt=["p", "q"]), {"classification": [scores, []]})
    assert [(each.class_name, each.prob) for each in found[0]] == [("a", 0.9), ("b", 0.1)]
    assert found[1] == []
    with pytest.raises(ValueError, match="it has 1 classification for 2 texts"):
        read(ask(model_id="m", prompt=["p", "q"]), {"classification": [scores]})


def test_a_prediction_is_parsed_with_and_without_a_list():
    assert read(classifiers.predict_v1(model_id="m", prompt="p"), {"prediction": "a"}) == ["a"]
    assert read(classifiers.predict_v1(model_id="m", prompt=["p", "q"]), {"prediction": ["a", "b"]}) == [
        "a",
        "b",
    ]
    with pytest.raises(ValueError, match="it has 1 prediction for 2 texts"):
        read(classifiers.predict_v1(model_id="m", prompt=["p", "q"]), {"prediction": "a"})


@pytest.mark.parametrize(
    "body", [["a", "b"], {"projects": ["a", "b"]}, [{"project_name": "a"}, {"name": "b"}]]
)
def test_projects_are_listed(body):
    assert read(classifier_projects.list_projects(), body) == ["a", "b"]


@pytest.mark.parametrize("body", [["a"], {"datasets": ["a"]}, [{"dataset_name": "a", "rows": 3}]])
def test_datasets_of_a_project_are_listed(body):
    assert read(classifier_projects.list_datasets("p"), body) == ["a"]


def test_jobs_and_models_of_a_project_are_listed():
    (job,) = read(classifier_projects.list_jobs("p"), [{"job_id": 1, "status": "x"}])
    assert job.job_id == "1"
    (model,) = read(classifier_projects.list_models("p"), {"models": [{"model_id": "u", "accuracy": 0.9}]})
    assert (model.model_id, model.model_extra) == ("u", {"accuracy": 0.9})


def test_a_downloaded_dataset_is_returned_unchanged():
    call = classifier_projects.download_dataset(project_name="p", dataset_name="d")
    assert call.parse(b"\x00rows") == b"\x00rows"
