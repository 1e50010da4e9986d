"""Two models answer the same rows once; the metrics are correct, and the gate works as configured."""

from __future__ import annotations

import json
import re
import time

import pytest

from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    ThresholdMissedError,
    TooManyFailedRowsError,
)
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from tests.support.databases import CONN_ID, sqlite
from tests.support.local_platform import local_platform
from tests.support.platforms import connect, posts, submissions
from tests.support.tasks import begin, log_lines, maker, run_to_end
from tests.support.upstream import PARROT_MODEL, TEXT_MODEL, instance_of, text_for, upstream

pytestmark = pytest.mark.any_airflow

PALINDROMES = [{"input": f"word{number}", "output": f"word{number}"} for number in range(3)]
"""Both models are right."""
BACKWARDS = [{"input": f"one two {number}", "output": f"{number} two one"} for number in range(6)]
"""The reversing model is right; the repeating model has all the words, but in another order."""
NEITHER = [{"input": "red blue", "output": "green"}]
ROWS = PALINDROMES + BACKWARDS + NEITHER


@pytest.fixture(scope="module")
def two_models():
    with upstream(more_models=(PARROT_MODEL,)) as engine:
        yield engine


@pytest.fixture(scope="module")
def serving(two_models, tmp_path_factory):
    with local_platform(tmp_path_factory.mktemp("platform"), two_models.url) as running:
        yield running


@pytest.fixture
def server(serving, monkeypatch):
    connect(monkeypatch, serving)
    serving.control.reset()
    yield serving
    serving.control.release()
    for job in serving.control.jobs():
        if job["ended"] is None:
            serving.control.end(job["id"], "cancelled")
    serving.control.reset()


@pytest.fixture
def evaluate(server, tmp_path):  # noqa: ARG001 - the connection points to it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiEvaluateOperator,
        task_id="evaluate",
        input=ROWS,
        model_name=TEXT_MODEL,
        base_model_name=PARROT_MODEL,
        output=str(tmp_path / "out"),
        chunk_size=4,
        deferrable=True,
        poll_interval=0.1,
        timeout=60,
    )


@pytest.mark.parametrize("endpoint", ["batch", "completions", "chat"])
def test_both_models_are_scored_on_every_endpoint(evaluate, tmp_path, server, endpoint):
    ended = run_to_end(evaluate(endpoint=endpoint))
    assert ended.result == {
        "passed": True,
        "metrics": {
            "model": {"exact_match": 0.9, "token_f1": 0.9},
            "base": {"exact_match": 0.3, "token_f1": 0.9},
            "gain": {"exact_match": pytest.approx(0.6), "token_f1": 0.0},
        },
        "rows": 10,
        "left_out": 0,
        "failed": {"model": 0, "base": 0},
        "failures": {"model": {}, "base": {}},
        "better": {"exact_match": 6, "token_f1": 0},
        "worse": {"exact_match": 0, "token_f1": 0},
        "missed": [],
        "model_name": TEXT_MODEL,
        "base_model_name": PARROT_MODEL,
        "report": f"{tmp_path}/out/report.md",
        "report_html": f"{tmp_path}/out/report.html",
        "scores": f"{tmp_path}/out/scores.jsonl",
        "output": f"{tmp_path}/out",
    }
    assert sum(posts(server).values()) == (6 if endpoint == "batch" else 20)
    assert bool(ended.deferrals) is (endpoint == "batch")


def test_the_progress_of_the_second_model_counts_from_its_own_start(evaluate):
    """The time that the first model took says nothing about the speed of the second."""
    ended = run_to_end(evaluate(chunk_size=20), while_deferred=lambda _: time.sleep(0.5))
    first, second = (deferral.trigger["progress"] for deferral in ended.deferrals)
    assert first["done"] == second["done"] == 0
    assert second["since"] - first["since"] >= 0.5


def test_scores_and_outputs_of_each_row_are_written(evaluate, tmp_path):
    run_to_end(evaluate())
    lines = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(10))
    assert lines[3] == {
        "index": 3,
        "model": {"exact_match": 1.0, "token_f1": 1.0},
        "base": {"exact_match": 0.0, "token_f1": 1.0},
    }
    outputs = [
        json.loads(line) for line in (tmp_path / "out/model/part-00000.jsonl").read_text().splitlines()
    ]
    assert [line["output"] for line in outputs] == [text_for(row["input"]) for row in ROWS[:4]]


def test_the_report_compares_the_models(evaluate, tmp_path):
    rows = [*BACKWARDS, {"input": "a | b", "output": "a | b"}]
    run_to_end(
        evaluate(input=rows, thresholds={"exact_match": 0.5}, min_gain={"exact_match": 0.9}, gate="return")
    )
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.startswith(f"# Evaluation of {TEXT_MODEL}: not good enough\n")
    assert "7 rows of a list of 7 rows." in report
    assert (
        f"| metric | model: {TEXT_MODEL} | base: {PARROT_MODEL} | gain | rows better | rows worse |" in report
    )
    assert "| exact_match | 0.8571 | 0.1429 | +0.7143 | 6 | 1 |" in report
    assert "- met: exact_match of the model is 0.8571 (at least 0.5 is required)" in report
    assert "- **missed**: the gain in exact_match is 0.7143 (at least 0.9 is required)" in report
    assert "- Row 6, right answer: `a | b`\n  - model: `b | a`\n  - base: `a | b`" in report


def test_one_model_is_scored_alone(evaluate, tmp_path):
    result = run_to_end(evaluate(base_model_name=None, input=BACKWARDS + NEITHER)).result
    assert result["metrics"] == {
        "model": {"exact_match": pytest.approx(6 / 7), "token_f1": pytest.approx(6 / 7)}
    }
    assert (result["base_model_name"], result["better"]) == (None, {})
    report = (tmp_path / "out" / "report.md").read_text()
    assert "no thresholds set" in report
    assert "- Row 6, right answer: `green`\n  - model: `blue red`\n" in report
    assert not (tmp_path / "out" / "base").exists()


def longer(expected, output):
    return len(output) - len(expected)


def test_a_users_own_metric_is_called_with_the_right_answer_and_the_output(evaluate):
    result = run_to_end(evaluate(input=NEITHER, metrics=[longer, "operator.eq"])).result
    assert result["metrics"]["model"] == {"longer": 3.0, "eq": 0.0}


def test_prompts_and_answers_are_rendered_from_templates(evaluate, tmp_path):
    file = tmp_path / "held-out.csv"
    file.write_text("id,subject,category\n1,late parcel,parcel late\n2,broken,broken\n")
    given = {"input": str(file), "prompt": "{subject}", "answer": "category"}
    assert run_to_end(evaluate(**given)).result["metrics"]["model"]["exact_match"] == 1


def test_the_field_of_a_typed_output_is_scored(evaluate):
    kind = {"mood": ["good", "bad"]}
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}}
    rows = [{"input": f"text {n}", "output": instance_of(schema, f"text {n}")["mood"]} for n in range(6)]
    assert run_to_end(evaluate(input=rows, output_type=kind)).result["metrics"]["model"]["exact_match"] == 1
    both = {**kind, "sure": "bool"}
    result = run_to_end(
        evaluate(input=rows, output_type=both, output_field="mood", on_other_run="replace")
    ).result
    assert result["metrics"]["model"]["exact_match"] == 1


# ---- the gate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        (
            {"thresholds": {"exact_match": 0.95}},
            "exact_match of the model is 0.9 (at least 0.95 is required)",
        ),
        ({"min_gain": '{"token_f1": 0.1}'}, "the gain in token_f1 is 0 (at least 0.1 is required)"),
    ],
)
def test_the_gate_decides_about_a_missed_threshold(evaluate, tmp_path, server, given, missed):
    from airflow.providers.common.compat.sdk import AirflowSkipException

    with pytest.raises(
        ThresholdMissedError,
        match=rf"not good enough: {re.escape(missed)}\. The report is in .*report\.md",
    ):
        run_to_end(evaluate(**given))
    assert (tmp_path / "out" / "report.md").exists()
    with pytest.raises(AirflowSkipException, match=re.escape(missed)):
        run_to_end(evaluate(**given, gate="skip"))
    result = run_to_end(evaluate(**given, gate="return")).result
    assert (result["passed"], len(result["missed"])) == (False, 1)
    assert submissions(server) == 6  # only the first try sent prompts


@pytest.mark.parametrize("gate", ["fail", "skip", "return"])
def test_met_thresholds_pass_every_gate(evaluate, gate):
    given = {
        "thresholds": {"exact_match": 0.9, "token_f1": 0.9},
        "min_gain": {"exact_match": 0.6, "token_f1": 0},
    }
    assert run_to_end(evaluate(**given, gate=gate)).result["passed"] is True


# ---- rows that fail, tries that die -------------------------------------------------------------------------


def test_a_row_that_failed_scores_nothing_and_is_counted(evaluate, server):
    server.control.row_fault("one two 0", times=None)
    result = run_to_end(evaluate(row_retries=0)).result
    assert result["failed"] == {"model": 1, "base": 1}
    assert result["metrics"]["model"]["exact_match"] == 0.8


def test_too_many_failed_rows_fail_the_task(evaluate, server):
    server.control.row_fault("one two 0", times=None)
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(evaluate(row_retries=0, max_failed_rows=0))


def test_a_retry_continues_where_the_last_try_died(evaluate, server):
    """The try dies after the first chunk of the first model; the retry does not send that chunk again."""
    server.control.hold(after_rows=2)
    begin(evaluate(max_in_flight=1))
    assert submissions(server) == 1
    server.control.release()
    ended = run_to_end(evaluate(max_in_flight=1))
    assert ended.result["rows"] == 10
    assert submissions(server) == 6
    assert ended.result["metrics"]["model"]["exact_match"] == 0.9


def test_a_repeated_task_sends_nothing_and_scores_again(evaluate, server):
    run_to_end(evaluate())
    result = run_to_end(evaluate(metrics=[longer], thresholds={"longer": 0})).result
    assert result["passed"] is True
    assert submissions(server) == 6


def test_a_batch_that_the_platform_ends_is_sent_again(evaluate, server):
    server.control.hold()
    deferral = begin(evaluate())
    server.control.end(deferral.trigger["job_ids"][0], "failed", "as the test wants")
    server.control.release()
    assert run_to_end(evaluate()).result["failed"] == {"model": 0, "base": 0}
    assert submissions(server) == 7


def test_the_log_has_the_metrics_but_no_rows(evaluate):
    with log_lines() as lines:
        run_to_end(evaluate())
    assert f"model {TEXT_MODEL}: exact_match 0.9, token_f1 0.9" in lines
    assert not [line for line in lines if "one two" in line or "two one" in line]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"only_failed_of": "/data/earlier"}, "an evaluation needs the answers to all rows"),
        ({"input": [*ROWS, {"input": "q", "output": " "}]}, "row 10 .* makes an empty output"),
        ({"input": [{"input": "q"}]}, "no column 'output'"),
        ({"input": []}, "no rows"),
        ({"answer": "{category}"}, "no column 'category'"),
        ({"answer": ""}, "answer must be a text"),
        ({"gate": "stop"}, "gate must be one of fail, skip, return"),
        ({"thresholds": {"bleu": 0.5}}, "thresholds names the metric 'bleu'"),
        ({"min_gain": {"bleu": 0.5}}, "min_gain names the metric 'bleu'"),
        ({"min_gain": {"token_f1": 0.5}, "base_model_name": None}, "pass base_model_name as well"),
        ({"base_model_name": ""}, "base_model_name"),
        ({"metrics": ["bleu"]}, "'bleu' is not known"),
        ({"output_field": "mood"}, "pass that as well"),
        ({"output_field": "mood", "output_type": {"sure": "bool"}}, "has only sure"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(evaluate, server, tmp_path, given, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(evaluate(**given))
    assert posts(server) == {}
    assert not (tmp_path / "out").exists()


BAD = [
    {"input": None, "output": "x"},
    {"input": "x", "output": None},
    {"input": " ", "output": "x"},
    {"input": "x", "output": " \t"},
    {"input": "x", "output": float("nan")},
]
"""Rows without a question, without an answer, and one that JSON cannot hold."""


@pytest.mark.parametrize("endpoint", ["batch", "chat"])
def test_bad_rows_are_neither_sent_nor_scored(evaluate, server, tmp_path, endpoint):
    rows = [*BAD[:3], *ROWS, *BAD[3:]]
    arguments = {"input": rows, "endpoint": endpoint, "on_bad_row": "error"}
    ended = run_to_end(evaluate(**arguments, max_failed_rows=5))
    result = ended.result
    assert (result["rows"], result["left_out"]) == (10, 5)
    assert sum(job["total"] for job in server.control.jobs()) in {0, 20}
    assert result["metrics"]["model"] == {"exact_match": 0.9, "token_f1": 0.9}
    reasons = {"no_prompt": 2, "no_expected_answer": 2, "bad_row": 1}
    assert result["failures"] == {"model": reasons, "base": reasons}
    scores = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [row["index"] for row in scores] == list(range(3, 13))
    with pytest.raises(InvalidArgumentError, match=r"5 of 15 rows .* cannot be sent"):
        run_to_end(evaluate(**arguments, max_failed_rows=4, output=str(tmp_path / "other")))


def test_a_prompt_that_is_a_conversation_is_still_a_bad_row(evaluate):
    conversation = [{"role": "user", "content": "hello"}]
    rows = [*ROWS, {"input": conversation, "output": "x"}]
    result = run_to_end(evaluate(input=rows, on_bad_row="error", max_failed_rows=1)).result
    assert result["failures"]["model"] == {"bad_row": 1}


def test_a_row_of_a_query_that_json_cannot_hold_is_not_scored(evaluate, tmp_path, monkeypatch):
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path)
    database.run("CREATE TABLE questions (input TEXT, output)")
    database.fill("questions", [(row["input"], row["output"]) for row in ROWS])
    database.run("INSERT INTO questions VALUES ('x', x'ff')")
    database.connect(monkeypatch)
    query = {"input": None, "input_sql": "SELECT * FROM questions ORDER BY rowid", "input_conn_id": CONN_ID}
    with pytest.raises(InvalidArgumentError, match="row 10 of the query: column 'output' is of type bytes"):
        run_to_end(evaluate(**query))
    result = run_to_end(evaluate(**query, on_bad_row="error", max_failed_rows=1)).result
    assert (result["rows"], result["left_out"]) == (10, 1)
    assert result["failures"] == {"model": {"bad_row": 1}, "base": {"bad_row": 1}}
