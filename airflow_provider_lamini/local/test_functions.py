"""The test functions: each scores one output of a model against the right answer, from 0 to 1."""

from __future__ import annotations

import inspect
from statistics import fmean
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def exact_match(output: str, target: str) -> float:
    """Return 1 if the output equals the target, apart from surrounding white space."""
    return float(metrics.exact_match(output, target))


def fuzzy_match(output: str, target: str) -> float:
    """Return 1 if the output equals the target, apart from case, punctuation, and a few characters."""
    return float(metrics.fuzzy_match(output, target))


def token_f1(output: str, target: str) -> float:
    """Return the harmonic mean of the shares of common words in the output and in the target."""
    return metrics.text_metrics([output], [target], metrics.exact_match).f1


TEST_FUNCTIONS: Final[Mapping[str, Callable[[str, str], float]]] = {
    function.__name__: function for function in (exact_match, fuzzy_match, token_f1)
}


def source(name: str) -> str:
    """Return the source code of a test function."""
    return inspect.getsource(TEST_FUNCTIONS[name])


def unknown_functions(names: Iterable[str]) -> list[str]:
    """Return the names that are no test functions."""
    return [name for name in names if name not in TEST_FUNCTIONS]


def mean_scores(names: Iterable[str], outputs: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """Return the mean score of each test function.

    :param names: names of test functions
    :param outputs: outputs, one per row
    :param targets: right answers, one per row; at least one
    """
    return {name: fmean(map(TEST_FUNCTIONS[name], outputs, targets)) for name in dict.fromkeys(names)}


def weighted_score(weights: Mapping[str, float], output: str, target: str) -> float:
    """Return the reward of an output: the weighted sum of its scores.

    :param weights: test function to weight
    :param output: the output
    :param target: the right answer
    """
    return sum(weight * TEST_FUNCTIONS[name](output, target) for name, weight in weights.items())
