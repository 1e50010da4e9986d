"""The platform evaluates a classifier, and its metrics are compared with thresholds."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.errors import NotFoundError, UnavailableError
from airflow_provider_lamini.exceptions import InvalidArgumentError, ThresholdMissedError
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator
from tests.support.tasks import log_lines, maker, run_to_end

TICKETS = [{"text": f"where is parcel {number}", "category": "shipping"} for number in range(3)]


@pytest.fixture
def evaluate(tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiEvaluateClassifierOperator,
        task_id="evaluate",
        model_id="model-1",
        input=TICKETS,
        prompt="text",
        answer="category",
        output=str(tmp_path / "out"),
    )


def test_rows_are_sent_and_metrics_returned(tuning, evaluate, tmp_path):
    tuning.metrics = {"accuracy": 0.9, "test": {"f1": 0.8, "labels": ["a"]}, "note": "text", "done": True}
    with log_lines() as lines:
        result = run_to_end(evaluate(base_model_id="model-0", fuzzy_comparison="true")).result
    (sent,) = tuning.sent("/v1/eval/run")
    assert sent["eval_data_id"].startswith("airflow-")
    assert sent == {
        "test_model_id": "model-1",
        "test_eval_type": "classifier",
        "base_model_id": "model-0",
        "base_eval_type": "classifier",
        "eval_data": [{"input": row["text"], "target": "shipping"} for row in TICKETS],
        "eval_data_id": sent["eval_data_id"],
        "fuzzy_comparison": True,
    }
    assert result == {
        "passed": True,
        "metrics": {"accuracy": 0.9, "test.f1": 0.8},
        "rows": 3,
        "failures": {},
        "missed": [],
        "model_id": "model-1",
        "base_model_id": "model-0",
        "eval_job_id": "e1",
        "report": f"{tmp_path}/out/report.md",
        "report_html": f"{tmp_path}/out/report.html",
        "predictions": f"{tmp_path}/out/predictions.jsonl",
    }
    assert "accuracy 0.9, test.f1 0.8" in lines
    predictions = [
        json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    ]
    assert predictions[2] == {"input": "where is parcel 2", "target": "shipping", "test_output": "shipping"}
    assert "| accuracy | 0.9000 |" in (tmp_path / "out" / "report.md").read_text()


def test_the_same_rows_have_the_same_dataset_name(tuning, evaluate):
    for arguments in ({}, {"model_id": "model-2"}, {"input": TICKETS[:2]}, {"prompt": "category"}):
        run_to_end(evaluate(**arguments))
    names = [body["eval_data_id"] for body in tuning.sent("/v1/eval/run")]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_without_an_output_folder_nothing_is_written(tuning, evaluate, tmp_path):
    result = run_to_end(evaluate(output=None)).result
    assert (result["report"], result["predictions"]) == (None, None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ThresholdMissedError, match="The report is in the task's log"):
        run_to_end(evaluate(output=None, thresholds={"accuracy": 0.99}))
    assert len(tuning.bodies) == 2


@pytest.mark.usefixtures("tuning")
def test_the_gate_decides_about_a_missed_threshold(evaluate, tmp_path):
    from airflow.providers.common.compat.sdk import AirflowSkipException

    arguments = {"thresholds": {"accuracy": 0.95}}
    with pytest.raises(ThresholdMissedError, match=r"accuracy is 0\.9 \(at least 0\.95 is required\)"):
        run_to_end(evaluate(**arguments))
    assert "**missed**: accuracy is 0.9" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(AirflowSkipException):
        run_to_end(evaluate(**arguments, gate="skip"))
    result = run_to_end(evaluate(**arguments, gate="return")).result
    assert (result["passed"], result["missed"]) == (False, ["accuracy is 0.9 (at least 0.95 is required)"])


@pytest.mark.usefixtures("tuning")
def test_a_threshold_of_an_unknown_metric_is_named(evaluate):
    with pytest.raises(InvalidArgumentError, match="'precision', but there are only accuracy"):
        run_to_end(evaluate(thresholds={"precision": 0.5}))


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (503, UnavailableError)])
def test_a_platform_that_refuses_or_is_unavailable_fails_the_task(tuning, evaluate, status, error):
    tuning.fail["/v1/eval/run"] = [(status, "no such model")] * 9
    with pytest.raises(error):
        run_to_end(evaluate())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"model_id": ""}, "model_id"),
        ({"base_model_id": ""}, "base_model_id"),
        ({"input": [*TICKETS, {"text": "x", "category": ""}]}, "row 3 .* makes an empty output"),
        ({"input": []}, "no rows"),
        ({"answer": "label"}, "no column 'label'"),
        ({"gate": "stop"}, "gate"),
        ({"thresholds": {"accuracy": "high"}}, "thresholds"),
        ({"fuzzy_comparison": "perhaps"}, "fuzzy_comparison"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"input": [{"text": "t", "category": "c"}] * 50_001}, "more than 50000 rows"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(tuning, evaluate, arguments, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(evaluate(**arguments))
    assert not tuning.request_counts
