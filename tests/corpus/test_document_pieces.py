"""Pieces of a long text: nothing is lost, none is too long, and cuts are where a reader would cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.corpus.documents import pieces


@given(st.text(alphabet="ab .\n\t", max_size=300), st.integers(1, 50))
def test_pieces_contain_the_whole_text_in_order_and_none_is_too_long(text, limit):
    found = list(pieces(text, limit))
    assert all(piece == piece.strip() and 0 < len(piece) <= limit for piece in found)
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)


def test_a_short_text_is_one_piece_and_a_blank_text_is_none():
    assert list(pieces("one\n\ntwo", 100)) == ["one\n\ntwo"]
    assert list(pieces(" \n", 100)) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("First words\n\nThe next. And more here", "First words"),
        ("First words\nThe next. And more here", "First words"),
        ("First words. The next and more here", "First words."),
        ("First words the next and more here", "First words the"),
        ("Firstwordsthenextandmorehere", "Firstwordsthenex"),
    ],
)
def test_a_text_is_split_between_paragraphs_or_lines_or_sentences_or_words(text, first):
    assert next(pieces(text, 16)) == first
