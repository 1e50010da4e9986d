"""Evaluation over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.support.contract import check
from tests.support.local_platform import wait_until
from tests.support.upstream import TEXT_MODEL, text_for

if TYPE_CHECKING:
    import httpx

    from tests.support.local_platform import LocalPlatform

V2 = "/v2/classifier"
CLASSES = {"red": "things that are red", "blue": "things that are blue"}
RED, BLUE = (f"{name}: {description}" for name, description in CLASSES.items())


def classifier(http: httpx.Client, classes: dict[str, str]) -> str:
    body = {"name": f"colours {uuid4()}", "model_name": TEXT_MODEL, "classes": classes}
    job_id = http.post(f"{V2}/initialize", json=body).raise_for_status().json()["job_id"]
    wait_until(lambda: http.get(f"{V2}/{job_id}/status").json()["model_id"])
    return str(http.get(f"{V2}/{job_id}/status").json()["model_id"])


@pytest.fixture
def test_id(http: httpx.Client) -> str:
    return classifier(http, CLASSES)


def run(http: httpx.Client, model_id: str, rows: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    data = [{"input": text, "target": target} for text, target in rows]
    body = {"test_model_id": model_id, "test_eval_type": "classifier", "eval_data": data, "eval_data_id": "d"}
    found: dict[str, Any] = check(http.post("/v1/eval/run", json=body | more), "/v1/eval/run")
    assert (found["status"], found["eval_data_id"]) == ("COMPLETED", "d")
    return found


def test_a_classifier_is_evaluated(http: httpx.Client, test_id: str) -> None:
    found = run(http, test_id, [(RED, "red"), (BLUE, "blue"), (BLUE, "red")])
    assert found["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert sorted(found["metrics"]) == ["accuracy", "f1", "precision", "recall"]
    assert found["predictions"][2] == {
        "input": BLUE,
        "target": "red",
        "test_output": "blue",
        "base_output": None,
    }
    assert run(http, test_id, [(RED, "red")])["eval_job_id"] != found["eval_job_id"]


def test_two_classifiers_are_compared_side_by_side(http: httpx.Client, test_id: str) -> None:
    swapped = classifier(http, {"red": CLASSES["blue"], "blue": CLASSES["red"]})
    rows = [("red: things that are blue", "red"), (RED, "red"), (BLUE, "blue")]
    found = run(http, test_id, rows, base_model_id=swapped, base_eval_type="classifier", sbs=True)
    outputs = [(one["test_output"], one["base_output"]) for one in found["predictions"]]
    assert outputs[0][1] == "red"
    assert [tested for tested, _ in outputs[1:]] == ["red", "blue"]
    metrics = found["metrics"]
    right = {
        side: [output == target for output, (_, target) in zip(said, rows, strict=True)]
        for side, said in zip(("test", "base"), zip(*outputs, strict=True), strict=True)
    }
    assert metrics["accuracy"] == pytest.approx(sum(right["test"]) / 3)
    assert metrics["base_accuracy"] == pytest.approx(sum(right["base"]) / 3)
    pairs = list(zip(right["test"], right["base"], strict=True))
    assert (metrics["test_wins"], metrics["base_wins"]) == (
        pairs.count((True, False)),
        pairs.count((False, True)),
    )
    assert metrics["both_right"] + metrics["both_wrong"] + metrics["test_wins"] + metrics["base_wins"] == 3


def test_an_empty_base_model_counts_as_none(http: httpx.Client, test_id: str) -> None:
    more = {"base_model_id": "", "base_eval_type": "classifier", "sbs": False, "fuzzy_comparison": False}
    assert "base_accuracy" not in run(http, test_id, [(RED, "red")], **more)["metrics"]


def test_a_fuzzy_comparison_accepts_small_mistakes(http: httpx.Client, test_id: str) -> None:
    rows = [(RED, " Red!"), (BLUE, "BLUE")]
    assert run(http, test_id, rows)["metrics"]["accuracy"] == 0
    assert run(http, test_id, rows, fuzzy_comparison=True)["metrics"]["accuracy"] == 1


def test_a_text_model_is_evaluated_and_compared_with_a_classifier(http: httpx.Client, test_id: str) -> None:
    rows = [("one two", text_for("one two")), ("three four", "four"), ("five", "none of it")]
    found = run(
        http, TEXT_MODEL, rows, test_eval_type="text", base_model_id=test_id, base_eval_type="classifier"
    )
    assert found["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert found["metrics"]["recall"] == pytest.approx((1 + 1 + 0) / 3)
    assert found["metrics"]["base_accuracy"] == 0
    assert [one["test_output"] for one in found["predictions"]] == ["two one", "four three", "five"]
    assert {one["base_output"] for one in found["predictions"]} <= {"red", "blue"}


def test_an_invalid_evaluation_is_rejected(http: httpx.Client, test_id: str, platform: LocalPlatform) -> None:
    body = {
        "test_model_id": test_id,
        "test_eval_type": "classifier",
        "eval_data": [{"input": RED, "target": "red"}],
        "eval_data_id": "d",
    }
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"test_model_id": "none-such"}, 594, "none-such"),
        ({"test_model_id": "none/such", "test_eval_type": "text"}, 594, "none/such"),
        ({"base_model_id": "none-such"}, 594, "none-such"),
        ({"test_eval_type": "picture"}, 400, "classifier, text"),
        ({"base_eval_type": "picture"}, 400, "base_eval_type"),
        ({"sbs": True}, 400, "base_model_id"),
        ({"eval_data": []}, 422, "eval_data"),
        ({"eval_data": [{"input": RED}]}, 422, "target"),
    ]
    for change, code, said in wrong:
        response = http.post("/v1/eval/run", json=body | change)
        assert response.status_code == code, (change, response.text)
        assert said in response.text
    platform.control.row_fault("things that are")
    failed = http.post("/v1/eval/run", json=body)
    assert failed.status_code == 500
    platform.control.loading(60)
    assert http.post("/v1/eval/run", json=body).status_code == 513
