"""What finish reasons and thinking say about an answer, however a platform writes them."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.rows.answers.judging import (
    MEANINGS,
    AnswerPolicy,
    judge_all,
    meaning_of,
)
from airflow_provider_lamini.rows.answers.output_shape import OutputShape
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

REASONS = {
    "CONTENT_FILTER": FailureReason.FILTERED,
    "content-filter": FailureReason.FILTERED,
    "SAFETY": FailureReason.FILTERED,
    "Tool_Calls": FailureReason.TOOL_CALLS,
    "refusal": FailureReason.REFUSED,
    "ERROR": FailureReason.PLATFORM_ERROR,
    "insufficient_system_resource": FailureReason.PLATFORM_ERROR,
    "SPII": FailureReason.FILTERED,
    "malformed_function_call": FailureReason.TOOL_CALLS,
    "UNEXPECTED_TOOL_CALL": FailureReason.TOOL_CALLS,
    "tool_use": FailureReason.TOOL_CALLS,
}


@pytest.mark.parametrize("word", REASONS)
def test_a_finish_reason_counts_in_any_letter_case(word):
    result = judge_all(["text", "good"], [word, "STOP"], MEANINGS, AnswerPolicy())
    assert result.failures == {0: REASONS[word]}


@pytest.mark.parametrize("word", ["LENGTH", "MAX_TOKENS", "max_tokens"])
def test_a_cut_is_a_cut_in_any_letter_case(word):
    assert meaning_of(word) is FailureReason.TRUNCATED


@pytest.mark.parametrize("word", ["stop", "STOP", "eos", "end_turn", ""])
def test_other_words_say_that_the_answer_is_complete(word):
    assert meaning_of(word) is None


THOUGHTS = [
    "<think>hm</think>",
    "<THINK>hm</THINK>\n",
    "<thinking>hm</thinking> ",
    "\n\n<think>hm</think>",
    "hm\n</think>\n\n",
    "hm</think>\n",
    "\n</think>",
    "[THINK]hm[/THINK]",
    "\n[THINK]hm[/THINK]\n",
    "<reasoning>hm</reasoning>",
    "   <Reasoning>hm</reasoning>\n",
]


@pytest.mark.parametrize("thought", THOUGHTS)
def test_thinking_before_an_answer_is_removed_or_kept_apart(thought):
    assert judge_all([f"{thought}yes"], ["stop"], MEANINGS, AnswerPolicy()).outputs == ["yes"]
    kept = judge_all(["no", f"{thought}yes"], ["stop"] * 2, MEANINGS, AnswerPolicy(keep_reasoning=True))
    assert (kept.outputs, kept.reasoning) == (["no", "yes"], {1: "hm"} if "hm" in thought else {})


@pytest.mark.parametrize(
    "text",
    [
        "<b>yes</b>",
        "<thinker>",
        "I <think> so",
        "<",
        "Close it with </think>",
        "Write </think> there.\nThat is all.",
        "An <think>a</think>\nexample",
        "a</think>b",
        "A [THINK]a[/THINK]\nexample",
        "[think]a[/think]b",
        "a\n</reasoning>\nb",
        "a\n[/THINK]\nb",
        '{"tag": "a</think>\\nb"}',
    ],
)
def test_other_text_stays_as_it_is(text):
    assert judge_all([text], ["stop"], MEANINGS, AnswerPolicy(keep_reasoning=True)) == ChunkResult(
        [text], ["stop"], [None]
    )


@pytest.mark.parametrize("strict", [False, True])
def test_thinking_before_an_object_is_kept_too(strict):
    shape = OutputShape(schema=json_schema({"n": "int"}), strict=strict)
    policy = AnswerPolicy(shape=shape, keep_reasoning=True)
    texts = ['{"n": 1}', 'so {"n": 2}?\n</think>\n{"n": 3}', '<think>hm</think>{"n": 4}']
    found = judge_all(texts, ["stop"] * 3, MEANINGS, policy)
    assert found.outputs == [{"n": 1}, None, None] if strict else [{"n": 1}, {"n": 3}, {"n": 4}]
    assert found.reasoning == {1: 'so {"n": 2}?', 2: "hm"}


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("date", "2026-02-28", "28/02/2026"),
        ("date-time", "2026-02-28T10:00:00Z", "tomorrow"),
        ("time", "10:00", "ten"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "1234"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "::g"),
    ],
)
def test_the_format_of_a_text_in_a_schema_counts(kind, right, wrong):
    schema = {"type": "object", "properties": {"x": {"type": "string", "format": kind}}}
    policy = AnswerPolicy(shape=OutputShape(schema=schema))
    texts = [json.dumps({"x": value}) for value in (right, wrong)]
    found = judge_all(texts, ["stop"] * 2, MEANINGS, policy)
    assert found.outputs == [{"x": right}, None]
    assert found.errors[1].endswith("field 'x' violates 'format'")
