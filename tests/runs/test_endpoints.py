"""What an answer of the platform means for a row."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.platforms.lamini.endpoints import (
    BatchCompletions,
    Chat,
    DirectCompletions,
    Inference,
)
from airflow_provider_lamini.rows.endpoints import RowResult, outcome, outcomes, set_result
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

KIND = {
    "mood": ["good", "bad"],
    "stars": [1, 2],
    "words": "int",
    "share": "float",
    "said": "str",
    "loud": "bool",
}
GOOD = {"mood": "good", "stars": 1, "words": 3, "share": 0.5, "said": "", "loud": False}


def asked(output_type=None, max_new_tokens=None):
    return Inference(model_name="m", output_type=output_type, max_new_tokens=max_new_tokens)


@pytest.mark.parametrize("output", ["a text", "", "{}", 5, {"a": 1}, ["x"]])
def test_without_an_output_type_an_output_stays_as_it_is(output):
    assert outcome(output, "stop", None) == RowResult(output, "stop")


@pytest.mark.parametrize("reason", ["stop", "length", "another word"])
def test_the_platforms_reason_is_kept(reason):
    assert outcome("text", reason, None) == RowResult("text", reason)


@pytest.mark.parametrize("kind", [None, KIND])
@pytest.mark.parametrize("reason", [None, "error", "length"])
def test_no_output_is_a_failed_row_with_the_platforms_reason(reason, kind):
    row = outcome(None, reason, kind)
    assert (row.output, row.finish_reason) == (None, reason)
    hint = "; max_new_tokens may be too small, or the prompt too long" if reason == "length" else ""
    assert row.error == f"the platform gave no output (finish_reason {reason or 'missing'}){hint}"


def test_an_output_without_a_reason_is_not_done_and_hence_failed():
    assert outcome("half a te", None, None).error == "the platform gave no output (finish_reason missing)"


@pytest.mark.parametrize("kind", [None, KIND])
def test_an_output_that_the_platforms_time_limit_cut_is_a_failed_row(kind):
    row = outcome("half a te", "timeout", kind)
    assert row == RowResult(None, "timeout", "the platform's time limit cut the output off")


@pytest.mark.parametrize("given", [GOOD, json.dumps(GOOD), GOOD | {"share": 2, "more": None}])
def test_an_object_that_fits_is_the_output_also_where_it_came_as_text(given):
    row = outcome(given, "stop", KIND)
    assert row == RowResult(json.loads(given) if isinstance(given, str) else given, "stop")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mood", "ugly"),
        ("mood", None),
        ("mood", ["good"]),
        ("stars", 3),
        ("stars", "1"),
        ("stars", True),
        ("stars", 1.0),
        ("words", "3"),
        ("words", 3.5),
        ("words", True),
        ("words", None),
        ("share", "0.5"),
        ("share", False),
        ("said", 5),
        ("said", None),
        ("loud", 0),
        ("loud", "false"),
    ],
)
def test_a_field_of_another_kind_fails_the_row_and_is_named_without_its_value(field, value):
    row = outcome(GOOD | {field: value}, "stop", KIND)
    assert row.output is None
    assert row.error is not None
    wants = "not one of the allowed values" if isinstance(KIND[field], list) else f"not of type {KIND[field]}"
    assert row.error == f"the output does not fit output_type: field {field!r} is {wants}"


def test_a_missing_field_fails_the_row():
    less = {name: value for name, value in GOOD.items() if name != "said"}
    row = outcome(less, "stop", KIND)
    assert row == RowResult(None, "stop", "the output does not fit output_type: field 'said' is missing")


@pytest.mark.parametrize("output", ["a text", '{"mood": "go', "5", 5, [GOOD], "[]", ""])
def test_what_is_no_object_fails_the_row(output):
    assert outcome(output, "stop", KIND).error == "the output does not fit output_type: it is not an object"


def test_where_the_bound_on_tokens_cut_the_object_the_error_says_so():
    assert outcome('{"mood": "go', "length", KIND) == RowResult(
        None,
        "length",
        "the output does not fit output_type: it is not an object; max_new_tokens may be too small",
    )


def test_a_batch_answers_row_by_row():
    answer = {"outputs": ["a", None, "c"], "finish_reason": ["stop", "error", "length"]}
    rows = BatchCompletions(asked()).results("b1", 3).parse(json.dumps(answer).encode())
    assert rows.outputs == ["a", None, "c"]
    assert rows.finish_reasons == ["stop", "error", "length"]
    assert [error is None for error in rows.errors] == [True, False, True]


@pytest.mark.parametrize(
    ("outputs", "reasons"),
    [
        (["a", "b"], ["stop", "length"]),
        (["a", None], ["stop", "stop"]),
        (["a", "b"], ["stop", "timeout"]),
        (["a", "b"], [None, "stop"]),
        ([], []),
    ],
)
@pytest.mark.parametrize("output_type", [None, {"said": "str"}])
def test_many_rows_are_judged_as_each_alone(outputs, reasons, output_type):
    together = outcomes(outputs, reasons, output_type)
    alone = [outcome(*row, output_type) for row in zip(outputs, reasons, strict=True)]
    assert together.outputs == [row.output for row in alone]
    assert together.finish_reasons == [row.finish_reason for row in alone]
    assert together.errors == [row.error for row in alone]


def test_a_batch_of_another_number_of_rows_is_refused_as_a_whole():
    call = BatchCompletions(asked()).results("b1", 3)
    with pytest.raises(ValueError, match="batch b1 has 2 outputs for 3 prompts"):
        call.parse(b'{"outputs": ["a", "b"], "finish_reason": ["stop", "stop"]}')


def test_a_batch_asks_what_was_said_and_leaves_out_what_was_not():
    assert BatchCompletions(asked()).submit(["a"]).json == {"model_name": "m", "prompt": ["a"]}
    assert BatchCompletions(asked({"n": "int"}, 7)).submit(["a"]).json == {
        "model_name": "m",
        "prompt": ["a"],
        "output_type": {"n": "int"},
        "max_new_tokens": 7,
    }


@pytest.mark.parametrize(
    "answer", [{"outputs": "a", "finish_reason": "length"}, {"outputs": ["a"], "finish_reason": ["length"]}]
)
def test_a_single_completion_may_be_answered_bare_or_as_a_list(answer):
    row = DirectCompletions(asked()).ask(["p"]).parse(json.dumps(answer).encode())
    assert row == [RowResult("a", "length")]


def test_a_single_completion_without_a_reason_is_done():
    assert DirectCompletions(asked()).ask(["p"]).parse(b'{"outputs": "a"}') == [RowResult("a", "stop")]


def test_a_chat_reads_the_object_in_the_message_and_asks_for_it():
    call = Chat(asked({"n": "int"}, 9)).ask(["p"])
    assert call.json["messages"] == [{"role": "user", "content": "p"}]
    assert call.json["max_tokens"] == 9
    assert call.json["response_format"]["type"] == "json_schema"
    message = {"role": "assistant", "content": '{"n": 5}'}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert call.parse(json.dumps(answer).encode()) == [RowResult({"n": 5}, "stop")]


def test_a_row_is_noted_as_settled_or_as_failed():
    chunk = ChunkResult.pending(2)
    set_result(chunk, 0, RowResult("a", "stop"))
    set_result(chunk, 1, RowResult(None, "error", "why"))
    assert (chunk.outputs, chunk.finish_reasons, chunk.errors) == (
        ["a", None],
        ["stop", "error"],
        [None, "why"],
    )
