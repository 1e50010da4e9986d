"""What finish reasons and thinking say about an answer, however a platform writes them."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.rows.answers import (
    MEANINGS,
    AnswerPolicy,
    judge_all,
    meaning_of,
    without_thinking,
)
from airflow_provider_lamini.rows.failures import FailureReason

REASONS = {
    "CONTENT_FILTER": FailureReason.FILTERED,
    "content-filter": FailureReason.FILTERED,
    "SAFETY": FailureReason.FILTERED,
    "Tool_Calls": FailureReason.TOOL_CALLS,
    "refusal": FailureReason.REFUSED,
    "ERROR": FailureReason.PLATFORM_ERROR,
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


THOUGHTS = ["<think>hm</think>", "<THINK>hm</THINK>\n", "<thinking>hm</thinking> ", "\n\n<think>hm</think>"]


@pytest.mark.parametrize("thought", THOUGHTS)
def test_thinking_before_an_answer_is_removed(thought):
    assert without_thinking(f"{thought}yes") == "yes"
    assert judge_all([f"{thought}yes"], ["stop"], MEANINGS, AnswerPolicy()).outputs == ["yes"]


@pytest.mark.parametrize("text", ["<b>yes</b>", "<thinker>", "I <think> so", "", "<"])
def test_other_text_stays_as_it_is(text):
    assert without_thinking(text) == text
