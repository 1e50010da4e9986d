"""Splitting text into sentences and estimating tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.local.text import sentences, token_count


def test_sentences_end_at_punctuation_and_line_breaks() -> None:
    text = 'Dr. Smith paid 3.50 for it. "Why?" he asked! See e.g. page 4. Łódź is far… A line\nthe next. 好。吗\uff1f end'
    assert sentences(text) == [
        "Dr. Smith paid 3.50 for it.",
        '"Why?" he asked!',
        "See e.g. page 4.",
        "Łódź is far…",
        "A line",
        "the next.",
        "好。",
        "吗\uff1f",
        "end",
    ]
    assert sentences(" \n ") == []


@given(st.text(max_size=300))
def test_splitting_into_sentences_loses_no_character(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_words_parts_of_long_words_and_punctuation_count_as_tokens() -> None:
    assert token_count("A short sentence, really.") == 7
    assert token_count("") == 0
    assert token_count("a" * 60) == 10
    assert token_count("漢字") == 2
