"""A response to a request for embeddings in which some vectors cannot be used: the others are taken."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.platforms.lamini.api.embeddings import embed, read_vectors

GOOD = [1.0, 0.5]


@pytest.mark.parametrize(
    "bad", [None, [], [1.0], [1.0, 2.0, 3.0], [1.0, None], [float("nan"), 1.0], ["a", "b"]], ids=repr
)
def test_a_vector_that_cannot_be_used_is_missing_and_the_others_are_taken(bad):
    content = json.dumps({"embedding": [GOOD, bad, GOOD]}).encode()
    assert read_vectors(content) == [GOOD, None, GOOD]
    assert embed(prompt=["a", "b", "c"]).parse(content) == [GOOD, None, GOOD]


@pytest.mark.parametrize("vectors", [[[1.0], [1.0, 2.0]], [[]], [[], []], [None], [None, []]], ids=repr)
def test_vectors_of_which_none_is_certain_are_refused(vectors):
    with pytest.raises(ValueError, match=r"must have the same length|xpected"):
        read_vectors(json.dumps({"embedding": vectors}).encode())
