"""Texts are classified: one, a few, or rows from storage to storage."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.errors import ModelNotFoundError, ProtocolError
from airflow_provider_lamini.exceptions import InvalidArgumentError, TooManyFailedRowsError
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from tests.support.results import rows_in
from tests.support.tasks import log_lines, maker, run_to_end

TEXTS = ["spam spam ham", "ham", "eggs and spam and eggs and eggs"]
CLASSES = ["spam", "ham", "eggs"]
PATH = "/v2/classifier/model-c1/classify"


@pytest.fixture
def classify(knowledge):  # noqa: ARG001 - the operator sends requests to it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(LaminiClassifyOperator, task_id="sort", model_id="model-c1", input=TEXTS, timeout=30)


def test_the_result_of_one_text_is_its_classes(knowledge, classify):
    ended = run_to_end(classify(input=TEXTS[0]))
    assert ended.result == {
        "model_id": "model-c1",
        "class": "spam",
        "prob": 2 / 3,
        "classes": [
            {"class": "spam", "prob": 2 / 3},
            {"class": "ham", "prob": 1 / 3},
            {"class": "eggs", "prob": 0.0},
        ],
    }
    assert knowledge.sent(PATH) == [{"prompt": [TEXTS[0]]}]


def test_the_results_of_a_few_texts_are_in_order(classify):
    assert [answer["class"] for answer in run_to_end(classify()).result["outputs"]] == CLASSES


def test_top_n_and_threshold_are_sent(knowledge, classify):
    answers = run_to_end(classify(top_n="2", threshold="0.4")).result["outputs"]
    assert [[each["class"] for each in answer["classes"]] for answer in answers] == [
        ["spam"],
        ["ham"],
        ["eggs"],
    ]
    assert knowledge.sent(PATH)[0] == {"prompt": TEXTS, "top_n": 2, "threshold": 0.4}


def test_a_text_without_a_class_is_not_a_failure(classify, tmp_path):
    given = {"threshold": 0.7, "output": str(tmp_path / "out")}
    assert run_to_end(classify(**given)).result["counts"]["ok"] == 3
    assert rows_in(tmp_path / "out")[0]["output"] == {"class": None, "prob": None, "classes": []}


def test_rows_from_storage_are_classified_with_many_rows_per_request(knowledge, classify, tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [{"id": number, "body": TEXTS[number % 3]} for number in range(100)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    ended = run_to_end(
        classify(input=str(source), prompt="body", output=str(out), passthrough=["id"], chunk_size=80)
    )
    found = rows_in(out)
    assert [row["id"] for row in found] == list(range(100))
    assert [row["output"]["class"] for row in found] == [CLASSES[number % 3] for number in range(100)]
    assert {row["error"] for row in found} == {None}
    assert sorted(len(body["prompt"]) for body in knowledge.sent(PATH)) == [16, 20, 32, 32]
    assert (ended.result["chunks"], ended.result["model"]) == (2, "model-c1")
    assert ended.deferrals == []


def test_a_refused_text_does_not_affect_the_others(classify, tmp_path):
    texts = [*TEXTS, "refuse this", *TEXTS]
    out = str(tmp_path / "out")
    assert run_to_end(classify(input=texts, output=out, max_failed_rows=1)).result["counts"]["failed"] == 1
    assert [row["error"] is not None for row in rows_in(tmp_path / "out")] == [False] * 3 + [True] + [
        False
    ] * 3
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(classify(input=texts, output=out))


def test_a_retry_sends_only_the_remaining_rows(knowledge, classify, tmp_path):
    given = {"output": str(tmp_path / "out"), "chunk_size": 1, "max_in_flight": 1}
    knowledge.fail[PATH] = [(401, "key changed")]
    with pytest.raises(Exception, match="key changed"):
        run_to_end(classify(**given))
    run_to_end(classify(**given))
    asked = knowledge.request_counts[f"POST {PATH}"]
    run_to_end(classify(**given))
    assert knowledge.request_counts[f"POST {PATH}"] == asked
    assert [row["output"]["class"] for row in rows_in(tmp_path / "out")] == CLASSES


def test_results_with_another_threshold_are_not_mixed(classify, tmp_path):
    run_to_end(classify(output=str(tmp_path / "out")))
    with pytest.raises(InvalidArgumentError, match="other settings"):
        run_to_end(classify(output=str(tmp_path / "out"), threshold=0.1))


def test_the_error_names_a_missing_classifier(classify):
    with pytest.raises(ModelNotFoundError):
        run_to_end(classify(model_id="other"))


def test_a_response_for_too_few_texts_is_rejected(knowledge, classify):
    knowledge.omits_last_text = True
    with pytest.raises(ProtocolError, match="it has 2 classifications for 3 texts"):
        run_to_end(classify())


@pytest.mark.parametrize(
    "wrong",
    [
        {"model_id": ""},
        {"model_id": None},
        {"input": None},
        {"input": ""},
        {"input": TEXTS * 40},
        {"input": "missing.csv"},
        {"input": [{"body": "x"}]},
        {"top_n": 0},
        {"top_n": "all"},
        {"threshold": -0.1},
        {"threshold": 1.5},
        {"threshold": "high"},
        {"threshold": float("nan")},
        {"output": "", "input": "x.csv"},
        {"chunk_size": 0},
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent(knowledge, classify, wrong):
    with pytest.raises(InvalidArgumentError):
        run_to_end(classify(**wrong))
    assert not knowledge.request_counts


def test_neither_texts_nor_the_key_are_in_the_log(knowledge, classify, tmp_path):
    with log_lines() as lines:
        run_to_end(classify(output=str(tmp_path / "out")))
    assert lines
    assert not [line for line in lines if "spam" in line or knowledge.key in line]


def test_a_token_limit_cannot_be_kept(knowledge, classify, out):
    with pytest.raises(InvalidArgumentError, match="this endpoint reports no tokens"):
        run_to_end(classify(output=str(out), max_total_tokens=100))
    assert not knowledge.sent(PATH)
