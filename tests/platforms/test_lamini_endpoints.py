"""What an answer of the platform means for a row."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from airflow_provider_lamini.platforms.lamini.endpoints import (
    MEANINGS,
    BatchCompletions,
    Chat,
    DirectCompletions,
    Inference,
)
from airflow_provider_lamini.rows.answers.judging import (
    ACCEPTABLE,
    Answer,
    AnswerPolicy,
    RowResult,
    judge,
    judge_all,
    set_result,
)
from airflow_provider_lamini.rows.answers.output_shape import OutputShape
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult, RowUsage
from airflow_provider_lamini.runs.answer_policy import parse_output_type

KIND = {
    "mood": ["good", "bad"],
    "stars": [1, 2],
    "words": "int",
    "share": "float",
    "said": "str",
    "loud": "bool",
}
GOOD = {"mood": "good", "stars": 1, "words": 3, "share": 0.5, "said": "", "loud": False}


def policy_of(output_type, accept=(FailureReason.TRUNCATED,), **more):
    shape = parse_output_type(output_type, strict=more.pop("strict", False))
    return AnswerPolicy(shape=shape, accept=frozenset(accept), **more)


def outcome(output, reason, output_type, accept=(FailureReason.TRUNCATED,), **more):
    policy = policy_of(output_type, accept, **more)
    return judge(Answer(output, reason, MEANINGS.get(reason)), policy)


def misfit(text):
    return RowFailure(FailureReason.INVALID_OUTPUT, f"the output does not fit output_type: {text}")


def asked(output_type=None, max_new_tokens=None):
    return Inference(model_name="m", answers=policy_of(output_type), max_new_tokens=max_new_tokens)


@pytest.mark.parametrize("output", ["a text", "{}", 5, {"a": 1}, ["x"]])
def test_without_an_output_type_an_output_stays_as_it_is(output):
    assert outcome(output, "stop", None) == RowResult(output, "stop")


@pytest.mark.parametrize("reason", ["stop", "length", "another word"])
def test_the_platforms_reason_is_kept(reason):
    assert outcome("text", reason, None) == RowResult("text", reason)


@pytest.mark.parametrize("kind", [None, KIND])
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (None, "no_answer"),
        ("error", "platform_error"),
        ("timeout", "timeout"),
        ("content_filter", "filtered"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("abort", "platform_error"),
        ("cancelled", "platform_error"),
        ("recitation", "filtered"),
        ("guardrail_intervened", "filtered"),
    ],
)
@pytest.mark.parametrize("output", [None, "", "half a te"])
def test_an_answer_that_is_not_complete_is_a_failed_row_with_its_reason(output, word, reason, kind):
    row = outcome(output, word, kind)
    assert (row.output, row.finish_reason, row.failure.reason) == (None, word, reason)
    assert f"finish_reason {word or 'missing'}" in row.failure.text


@pytest.mark.parametrize("kind", [None, KIND])
@pytest.mark.parametrize("word", ["stop", "length", "another word"])
@pytest.mark.parametrize("output", [None, "", " \n\t", "\u2003"])
def test_an_empty_answer_is_a_failed_row(output, word, kind):
    row = outcome(output, word, kind)
    assert (row.output, row.finish_reason, row.failure.reason) == (None, word, "empty")
    assert ("max_new_tokens may be too small" in row.failure.text) is (word == "length")


@pytest.mark.parametrize(
    ("output", "word", "accepted"),
    [
        ("", "stop", "empty"),
        (None, "stop", "empty"),
        ("half", "content_filter", "filtered"),
        (None, "content_filter", "filtered"),
        ("", "tool_calls", "tool_calls"),
    ],
)
def test_a_policy_can_accept_such_answers(output, word, accepted):
    assert outcome(output, word, None).failure.reason == accepted
    assert outcome(output, word, None, accept=[FailureReason(accepted)]) == RowResult(output or "", word)


def test_only_answers_can_be_accepted():
    assert not any(
        reason in ACCEPTABLE for reason in ("bad_row", "rejected", "platform_error", "no_answer", "timeout")
    )


@pytest.mark.parametrize("kind", [None, KIND])
def test_a_policy_can_refuse_what_the_token_limit_cut_off(kind):
    assert outcome("half", "length", kind, accept=[]).failure.reason == "truncated"


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
def test_a_field_of_another_kind_is_named_without_its_value_if_only_json_counts(field, value):
    row = outcome(GOOD | {field: value}, "stop", KIND, strict=True)
    assert row.output is None
    wants = "not one of the allowed values" if isinstance(KIND[field], list) else f"not of type {KIND[field]}"
    assert row.failure == misfit(f"field {field!r} is {wants}")


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("mood", "Good", "good"),
        ("mood", " bad\n", "bad"),
        ("stars", "1", 1),
        ("stars", 2.0, 2),
        ("words", "3", 3),
        ("words", 3.0, 3),
        ("words", "-7", -7),
        ("share", "0.5", 0.5),
        ("share", "1e-3", 0.001),
        ("loud", "false", False),
        ("loud", "True", True),
    ],
)
def test_a_value_whose_meaning_is_certain_is_converted(field, value, meant):
    row = outcome(GOOD | {field: value}, "stop", KIND)
    assert row.failure is None
    assert (row.output[field], type(row.output[field])) == (meant, type(meant))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mood", "ugly"),
        ("mood", "very good"),
        ("mood", None),
        ("mood", ["good"]),
        ("stars", 3),
        ("stars", "3"),
        ("stars", True),
        ("words", 3.5),
        ("words", "3.5"),
        ("words", "007"),
        ("words", "1,000"),
        ("words", "three"),
        ("words", "1e3"),
        ("words", True),
        ("words", None),
        ("words", 1e300),
        ("share", False),
        ("share", "0,5"),
        ("share", "50%"),
        ("share", "NaN"),
        ("share", "1e400"),
        ("share", "-9e999"),
        ("said", 5),
        ("said", 3.10),
        ("said", None),
        ("loud", 0),
        ("loud", "yes"),
        ("loud", ""),
    ],
)
def test_a_value_whose_meaning_would_change_fails_the_row(field, value):
    row = outcome(GOOD | {field: value}, "stop", KIND)
    wants = "not one of the allowed values" if isinstance(KIND[field], list) else f"not of type {KIND[field]}"
    assert row.failure == misfit(f"field {field!r} is {wants}")


OBJECT = {"said": 'a {brace} " and }'}
TEXT = json.dumps(OBJECT)


@pytest.mark.parametrize(
    "output",
    [
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Sure! Here is the JSON:\n\n{TEXT}",
        f"{TEXT}\n\nLet me know if {{this}} helps.",
        f'<think>maybe {{"said": "no"}}?</think>\n{TEXT}',
        f"\ufeff {TEXT} ",
        f"Use {{x}}: {TEXT}",
        f"As in {{x:d}}, and {{ y }}: {TEXT}",
        f"\\boxed{{{TEXT}}}",
        f"[1] and [2, 3], so {TEXT}",
        f"In [0, 1), it is {TEXT}",
        f"[THINK]maybe {{x}}?[/THINK]{TEXT}",
        f'Well. <reasoning>maybe {{"said": "no"}}?</reasoning>\n{TEXT}',
    ],
)
def test_one_object_with_words_around_it_is_the_output_unless_only_json_counts(output):
    assert outcome(output, "stop", {"said": "str"}).output == OBJECT
    assert outcome(output, "stop", {"said": "str"}, strict=True).failure == misfit("it is not an object")


@pytest.mark.parametrize(
    "output",
    [
        f"{TEXT}\n{TEXT}",
        f"Either {TEXT} or {TEXT}",
        "no object at all {",
        '{"said": "cut of',
        '{"said": NaN}',
        '{"said": "\\ud800"}',
        "{" * 5000,
        '{"a":' * 5000,
        f"[{TEXT}]",
        "<think>{}",
        f'{{"inner": {TEXT}, "said": "cut',
        f'{{"inner": {TEXT}, "said": "a",}}',
        f"{{'said': 'a', 'inner': {TEXT}}}",
        f'{{ \n "said": "a", "inner": [{TEXT}, {{"sa',
        f"{{said: 'a', inner: {TEXT}}}",
        f"{{\u201csaid\u201d: 1, inner: {TEXT}}}",
        f"{{// said\n said: {TEXT}}}",
        f'[{TEXT}, {{"said": ',
        f"[{TEXT},",
        f"Here: [1, {TEXT}",
        f'{TEXT}\n{{"said": ',
        f"{TEXT}\n{{said: 1}}",
        f"{TEXT}\n{{",
    ],
)
def test_an_answer_without_exactly_one_object_fails_the_row(output):
    assert outcome(output, "stop", {"said": "str"}).failure.reason == "invalid_output"


def test_a_part_of_a_recursive_object_that_was_cut_is_no_answer():
    class Node(BaseModel):
        name: str
        children: list[Node]

    policy = AnswerPolicy(shape=OutputShape(schema=Node.model_json_schema(), model=Node))
    whole = '{"name":"root","children":[{"name":"a","children":[]}]}'
    results = [
        judge(Answer(whole[:length], "stop"), policy) for length in (len(whole), *range(1, len(whole)))
    ]
    assert results[0].output == json.loads(whole)
    assert {result.failure.reason for result in results[1:]} == {"invalid_output"}


def test_a_missing_field_fails_the_row():
    less = {name: value for name, value in GOOD.items() if name != "said"}
    row = outcome(less, "stop", KIND)
    assert row == RowResult(None, "stop", misfit("field 'said' is missing"))


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (False, "the check did not accept the answer"),
        (0, "the check did not accept the answer"),
        ("too\n long", "too long"),
        ("", "the check did not accept the answer"),
        (ValueError("cell"), "the check raised ValueError"),
        (KeyError("cell"), "the check raised KeyError"),
    ],
)
@pytest.mark.parametrize(("kind", "output"), [(None, "text"), ({"said": "str"}, {"said": "x"})])
def test_a_check_fails_a_row_and_may_say_why(kind, output, verdict, text):
    def check(found):
        assert found == output
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    row = outcome(output, "stop", kind, check=check)
    assert row == RowResult(None, "stop", RowFailure(FailureReason.CHECK_FAILED, text))
    together = judge_all([output], ["stop"], MEANINGS, policy_of(kind, check=check))
    assert together.errors == [text]


@pytest.mark.parametrize("verdict", [None, True, 1])
def test_a_check_accepts_a_row(verdict):
    assert outcome("text", "stop", None, check=lambda _: verdict) == RowResult("text", "stop")


def test_a_check_sees_only_what_has_the_shape():
    seen = []
    outcome({"said": 5}, "stop", {"said": "str"}, check=seen.append)
    outcome(None, "timeout", None, check=seen.append)
    outcome("```\n" + json.dumps({"n": "5"}) + "\n```", "stop", {"n": "int"}, check=seen.append)
    assert seen == [{"n": 5}]


@pytest.mark.parametrize("output", ["a text", '{"mood": "go', "5", 5, [GOOD], "[]"])
def test_what_is_no_object_fails_the_row(output):
    assert outcome(output, "stop", KIND).failure == misfit("it is not an object")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"said": "x", "said": "y"}', {"said": "str"}),
        ('Here it is: {"said": "x", "said": "y"}', {"said": "str"}),
        ('{"said": {"a": 1, "a": 2}}', {"type": "object", "properties": {"said": {"type": "object"}}}),
    ],
)
def test_an_object_with_a_name_twice_fails_the_row_because_nobody_knows_which_value_was_meant(
    text, kind, strict
):
    assert outcome(text, "stop", kind, strict=strict).failure == misfit("it is not an object")
    assert outcome(text.replace('"said": "x", ', "").replace('"a": 1, ', ""), "stop", kind).failure is None


def test_where_the_bound_on_tokens_cut_the_object_the_error_says_so():
    assert outcome('{"mood": "go', "length", KIND) == RowResult(
        None,
        "length",
        misfit("it is not an object; max_new_tokens may be too small"),
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
        (["a", ""], ["stop", "stop"]),
        (["a", "\n"], ["stop", "stop"]),
        (["a", 5], ["stop", "stop"]),
        (["a", "b"], ["content_filter", "stop"]),
        (["a", "b"], ["stop", "timeout"]),
        (["a", "b"], [None, "stop"]),
        ([], []),
    ],
)
@pytest.mark.parametrize("output_type", [None, {"said": "str"}])
def test_many_rows_are_judged_as_each_alone(outputs, reasons, output_type):
    together = judge_all(outputs, reasons, MEANINGS, policy_of(output_type))
    alone = [outcome(*row, output_type) for row in zip(outputs, reasons, strict=True)]
    assert together.outputs == [row.output for row in alone]
    assert together.finish_reasons == [row.finish_reason for row in alone]
    failures = {offset: row.failure for offset, row in enumerate(alone) if row.failure is not None}
    assert together.failures == {offset: failure.reason for offset, failure in failures.items()}
    assert [together.errors[offset] for offset in failures] == [failure.text for failure in failures.values()]


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
    assert call.parse(json.dumps(answer).encode()) == [RowResult({"n": 5}, "stop", usages=(None,), model="m")]


@pytest.mark.parametrize(
    ("message", "word", "reason"),
    [
        ({"content": None}, "stop", "empty"),
        ({"content": ""}, "stop", "empty"),
        ({}, "stop", "empty"),
        ({"content": []}, None, "empty"),
        ({"content": [{"type": "text", "text": " "}]}, "stop", "empty"),
        ({"content": None, "refusal": "I cannot do that."}, "stop", "refused"),
        ({"content": "I can", "refusal": "I cannot do that."}, "stop", "refused"),
        ({"content": "half"}, "content_filter", "filtered"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls", "tool_calls"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "stop", "tool_calls"),
        ({"content": None, "tool_calls": []}, "stop", "empty"),
        ({"content": "\u200b\n"}, "stop", "empty"),
    ],
)
def test_a_chat_answer_without_an_answer_is_a_failed_row(message, word, reason):
    answer = {"choices": [{"message": message, "finish_reason": word}]}
    (row,) = Chat(asked()).ask(["p"]).parse(json.dumps(answer).encode())
    assert (row.output, row.failure.reason) == (None, reason)


def test_a_row_is_noted_as_settled_or_as_failed():
    chunk = ChunkResult.pending(2)
    set_result(chunk, 0, RowResult("a", "stop"))
    set_result(chunk, 1, RowResult(None, "error", RowFailure(FailureReason.PLATFORM_ERROR, "why")))
    assert (chunk.outputs, chunk.finish_reasons, chunk.errors) == (
        ["a", None],
        ["stop", "error"],
        [None, "why"],
    )


def test_what_a_row_has_used_is_summed_over_all_times_that_it_was_sent():
    chunk, counted = ChunkResult.pending(1), RowUsage("m", 2, 1, 3)
    for usages, model, used in [
        ((None,), "a", RowUsage("a")),
        ((counted,), "b", RowUsage("b", 2, 1, 3)),
        ((), None, RowUsage("b", 2, 1, 3)),
        ((None,), "c", RowUsage("c", 2, 1, 3)),
        ((counted, None, counted), "d", RowUsage("d", 6, 3, 9)),
    ]:
        set_result(chunk, 0, RowResult("x", "stop", usages=usages, model=model))
        assert chunk.usage == {0: used}


@pytest.mark.parametrize(
    ("output", "left"),
    [
        ("<think>hm</think>yes", "yes"),
        ("\n<think>\nhm\n</think>\n\nyes", "yes"),
        ("yes <think>hm</think>", "yes <think>hm</think>"),
        ("The tag <think> is not closed", "The tag <think> is not closed"),
    ],
)
def test_what_a_model_thinks_is_no_part_of_its_answer(output, left):
    assert outcome(output, "stop", None).output == left
    together = judge_all(["a", output], ["stop", "stop"], MEANINGS, AnswerPolicy())
    assert together.outputs == ["a", left]


@pytest.mark.parametrize("output", ["<think>hm", "<think>hm</think>", "<think>hm</think>\n ", "\n[THINK]hm"])
@pytest.mark.parametrize("word", ["stop", "length"])
def test_thoughts_without_an_answer_are_an_empty_answer(output, word):
    assert outcome(output, word, None).failure.reason == "empty"


def test_reasoning_beside_an_empty_content_is_an_empty_answer():
    message = {"content": None, "reasoning_content": "so much to say"}
    answer = {"choices": [{"message": message, "finish_reason": "length"}]}
    (row,) = Chat(asked()).ask(["p"]).parse(json.dumps(answer).encode())
    assert row.failure.reason == "empty"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_beside_the_content_is_kept_if_it_is_to_be(name):
    answer = {"choices": [{"message": {"content": "yes", name: "hm"}, "finish_reason": "stop"}]}
    content = json.dumps(answer).encode()
    assert Chat(asked()).ask(["p"]).parse(content) == [RowResult("yes", "stop", usages=(None,), model="m")]
    kept = (
        Chat(Inference(model_name="m", answers=AnswerPolicy(keep_reasoning=True))).ask(["p"]).parse(content)
    )
    assert kept == [RowResult("yes", "stop", usages=(None,), reasoning="hm", model="m")]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_is_out_of_range_does_not_become_null(number):
    row = outcome(f'{{"a": {number}}}', "stop", {"a": "float"})
    assert (row.output, row.failure.reason) == (None, "invalid_output")


@pytest.mark.parametrize("output", ["\u200b", "\ufeff\n", "\x00", "<think>so</think>\u2060"])
def test_an_answer_without_a_visible_character_is_empty_alone_and_among_others(output):
    assert outcome(output, "stop", None).failure.reason == "empty"
    together = judge_all(["a", output], ["stop", "stop"], MEANINGS, AnswerPolicy())
    assert together.failures == {1: "empty"}
