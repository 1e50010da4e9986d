"""Splitting documents into passages."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.local.rag.documents import Block
from airflow_provider_lamini.local.rag.passages import OVERLAP_TOKENS, PASSAGE_TOKENS, split_into_passages
from airflow_provider_lamini.local.text import sentences, token_count

LONG = [f"Sentence number {number} has a few words of its own." for number in range(60)]


def test_a_short_document_is_one_passage() -> None:
    assert split_into_passages([Block("One."), Block("Two.\n- item")]) == ["One.\n\nTwo.\n- item"]
    assert split_into_passages([]) == []


def test_each_section_has_its_own_passages_with_its_headings() -> None:
    blocks = [
        Block("Guide", 1),
        Block("Intro."),
        Block("Battery", 2),
        Block("Lasts long."),
        Block("Winter", 3),
        Block("Lasts less."),
        Block("Straps", 2),
        Block("Screws", 2),
        Block("Turn left."),
    ]
    assert split_into_passages(blocks) == [
        "Guide\nIntro.",
        "Guide > Battery\nLasts long.",
        "Guide > Battery > Winter\nLasts less.",
        "Guide > Straps",
        "Guide > Screws\nTurn left.",
    ]


def test_a_long_section_is_split_between_sentences_and_passages_overlap() -> None:
    found = split_into_passages([Block("Title", 1), Block(" ".join(LONG))])
    assert len(found) > 3
    bodies = [sentences(passage.removeprefix("Title\n")) for passage in found]
    for before, after in pairwise(bodies):
        overlap = [sentence for sentence in after if sentence in before]
        assert overlap
        assert before[-len(overlap) :] == after[: len(overlap)]
        assert sum(map(token_count, overlap)) <= OVERLAP_TOKENS
    unique = dict.fromkeys(sentence for body in bodies for sentence in body)
    assert list(unique) == LONG


def test_headings_that_are_too_long_leave_room_for_text() -> None:
    endless = " ".join(["heading"] * 500)
    found = split_into_passages([Block(endless, 1), Block("Near", 2), Block("Text.")])
    assert found[-1] == "Near\nText."
    assert all(token_count(passage) <= PASSAGE_TOKENS for passage in found)


text = st.text(st.sampled_from("ab Zé.!?\n-1漢"), max_size=400)
long_words = st.integers(1, 4000).map(lambda length: "w" * length)
blocks = st.lists(
    st.builds(Block, st.one_of(text, long_words, st.just(" ".join(LONG))), st.integers(0, 6)).filter(
        lambda block: bool(block.text.strip())
    ),
    max_size=8,
)


@given(blocks)
def test_no_passage_is_too_long_and_no_word_is_lost(document: list[Block]) -> None:
    found = split_into_passages(document)
    assert all(0 < token_count(passage) <= PASSAGE_TOKENS for passage in found)
    everything = "".join("".join(found).split())
    for block in document:
        for word in block.text.split() if not block.level else []:
            if token_count(word) <= OVERLAP_TOKENS:
                assert word in everything
