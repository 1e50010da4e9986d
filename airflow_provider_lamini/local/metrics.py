"""Evaluation metrics: accuracy, precision, recall and F1 of model answers, and a comparison of two models."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Matches = Callable[[str, str], bool]

FUZZY_RATIO: Final = 0.9
"""Minimum similarity of two texts, from 0 to 1, for a fuzzy match."""

MAX_FUZZY_CHARACTERS: Final = 5_000
"""Longer texts must be equal, because the comparison takes time with the product of both lengths."""

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Quality of a model's answers; every value is from 0 to 1.

    :param accuracy: share of answers that are right
    :param precision: share of the answered classes or words that are right
    :param recall: share of the right classes or words that were answered
    :param f1: harmonic mean of precision and recall
    """

    accuracy: float
    precision: float
    recall: float
    f1: float

    def to_dict(self, prefix: str = "") -> dict[str, float]:
        """Return the metrics by name.

        :param prefix: prefix of every name
        """
        values = (self.accuracy, self.precision, self.recall, self.f1)
        names = ("accuracy", "precision", "recall", "f1")
        return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}


def exact_match(output: str, target: str) -> bool:
    """Whether an answer equals the target, apart from surrounding white space."""
    return output.strip() == target.strip()


def fuzzy_match(output: str, target: str) -> bool:
    """Whether an answer equals the target, apart from case, punctuation, and a few characters."""
    first, second = (" ".join(_WORD.findall(text.casefold())) for text in (output, target))
    return first == second or _similarity(first, second) >= FUZZY_RATIO


def _similarity(first: str, second: str) -> float:
    """Share of the characters of both texts that are in their longest common subsequence, from 0 to 1."""
    total = len(first) + len(second)
    if (
        max(len(first), len(second)) > MAX_FUZZY_CHARACTERS
        or 2 * min(len(first), len(second)) < FUZZY_RATIO * total
    ):
        return 0.0
    # Bit-parallel: bit i of each number belongs to character i of the first text.
    positions: dict[str, int] = {}
    for index, character in enumerate(first):
        positions[character] = positions.get(character, 0) | 1 << index
    everything = unmatched = (1 << len(first)) - 1
    for character in second:
        matches = unmatched & positions.get(character, 0)
        unmatched = (unmatched + matches | unmatched - matches) & everything
    return 2 * (len(first) - unmatched.bit_count()) / total


def class_metrics(outputs: Sequence[str], targets: Sequence[str], matches: Matches) -> Metrics:
    """Compute the metrics of class names; precision, recall and F1 are macro averages over the classes.

    The classes are all targets and all answers that occur.

    :param outputs: answers, one per row
    :param targets: right answers, one per row
    :param matches: whether an answer counts as right
    """
    # A fuzzy match counts as an answer with the target's name.
    answers = [
        target if matches(output, target) else output for output, target in zip(outputs, targets, strict=True)
    ]
    hits = Counter(target for answer, target in zip(answers, targets, strict=True) if answer == target)
    answer_counts, target_counts = Counter(answers), Counter(targets)
    precisions, recalls, f1s = [], [], []
    for name in sorted(answer_counts.keys() | target_counts.keys()):
        precision, recall = _share(hits[name], answer_counts[name]), _share(hits[name], target_counts[name])
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(_f1(precision, recall))
    return Metrics(_share(hits.total(), len(targets)), fmean(precisions), fmean(recalls), fmean(f1s))


def text_metrics(outputs: Sequence[str], targets: Sequence[str], matches: Matches) -> Metrics:
    """Compute the metrics of free text; precision, recall and F1 compare words and are averages over the rows.

    :param outputs: answers, one per row
    :param targets: right answers, one per row
    :param matches: whether an answer counts as right
    """
    hits, precisions, recalls, f1s = [], [], [], []
    for output, target in zip(outputs, targets, strict=True):
        is_right = matches(output, target)
        output_words, target_words = (Counter(_WORD.findall(text.casefold())) for text in (output, target))
        common = (output_words & target_words).total()
        precision, recall = _share(common, output_words.total()), _share(common, target_words.total())
        if is_right:
            precision = recall = 1.0
        hits.append(float(is_right))
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(_f1(precision, recall))
    return Metrics(fmean(hits), fmean(precisions), fmean(recalls), fmean(f1s))


def side_by_side(
    test: Sequence[str], base: Sequence[str], targets: Sequence[str], matches: Matches
) -> dict[str, int]:
    """Count the rows in which only one of two models was right, and those in which both or neither was."""
    wins = Counter(
        (matches(test_output, target), matches(base_output, target))
        for test_output, base_output, target in zip(test, base, targets, strict=True)
    )
    return {
        "test_wins": wins[True, False],
        "base_wins": wins[False, True],
        "both_right": wins[True, True],
        "both_wrong": wins[False, False],
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
