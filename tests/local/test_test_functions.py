"""The test functions score single outputs."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.test_functions import (
    TEST_FUNCTIONS,
    mean_scores,
    source,
    unknown_functions,
    weighted_score,
)


@pytest.mark.parametrize(
    ("output", "target", "scores"),
    [
        (" billing\n", "billing", {"exact_match": 1.0, "fuzzy_match": 1.0, "token_f1": 1.0}),
        ("Billing!", "billing", {"exact_match": 0.0, "fuzzy_match": 1.0, "token_f1": 1.0}),
        ("the red door", "the blue door", {"exact_match": 0.0, "fuzzy_match": 0.0, "token_f1": 2 / 3}),
        ("", "billing", {"exact_match": 0.0, "fuzzy_match": 0.0, "token_f1": 0.0}),
    ],
)
def test_an_output_has_these_scores(output, target, scores):
    assert mean_scores(TEST_FUNCTIONS, [output], [target]) == pytest.approx(scores)


def test_scores_are_means_over_the_rows():
    assert mean_scores(["exact_match"], ["a", "b"], ["a", "c"]) == {"exact_match": 0.5}


def test_a_reward_is_a_weighted_sum():
    weights = {"exact_match": 2.0, "token_f1": -1.0}
    assert weighted_score(weights, "a", "a") == pytest.approx(1.0)


def test_the_source_code_of_a_function_can_be_read():
    assert source("token_f1").startswith("def token_f1(")
    assert unknown_functions(["token_f1", "rouge"]) == ["rouge"]
