"""Accuracy, precision, recall and F1 of answers, and which of two models did better."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Same = Callable[[str, str], bool]

ALIKE: Final = 0.9
"""Two texts are taken as the same from this share of equal characters on, where a fuzzy comparison was asked for."""

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well answers fit, each from 0 to 1.

    :param accuracy: share of answers that are right
    :param precision: of what was answered, how much is right
    :param recall: of what is right, how much was answered
    :param f1: harmonic mean of the two
    """

    accuracy: float
    precision: float
    recall: float
    f1: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """Each by its name.

        :param prefix: put before each name
        """
        values = (self.accuracy, self.precision, self.recall, self.f1)
        names = ("accuracy", "precision", "recall", "f1")
        return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}


def exactly(output: str, target: str) -> bool:
    """Whether an answer is the right one, white space around it aside."""
    return output.strip() == target.strip()


def nearly(output: str, target: str) -> bool:
    """Whether an answer is the right one but for case, signs, and a few characters."""
    first, second = (" ".join(_WORD.findall(text.casefold())) for text in (output, target))
    return first == second or SequenceMatcher(None, first, second, autojunk=False).ratio() >= ALIKE


def of_classes(outputs: Sequence[str], targets: Sequence[str], same: Same) -> Metrics:
    """Metrics of class names; precision, recall and F1 are means over the classes, each counting the same.

    A class is one that is the right answer of some row, or that was answered.

    :param outputs: what was answered, one per row
    :param targets: what is right, one per row
    :param same: whether an answer is right
    """
    # An answer that counts as right is counted under the right answer's name.
    said = [
        target if same(output, target) else output for output, target in zip(outputs, targets, strict=True)
    ]
    hits = Counter(target for output, target in zip(said, targets, strict=True) if output == target)
    answered, right = Counter(said), Counter(targets)
    precisions, recalls, f1s = [], [], []
    for name in sorted(answered.keys() | right.keys()):
        precision, recall = _share(hits[name], answered[name]), _share(hits[name], right[name])
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(_f1(precision, recall))
    return Metrics(_share(hits.total(), len(targets)), fmean(precisions), fmean(recalls), fmean(f1s))


def of_texts(outputs: Sequence[str], targets: Sequence[str], same: Same) -> Metrics:
    """Metrics of free text; precision, recall and F1 compare words and are means over the rows.

    :param outputs: what was answered, one per row
    :param targets: what is right, one per row
    :param same: whether an answer is right
    """
    right, precisions, recalls, f1s = [], [], [], []
    for output, target in zip(outputs, targets, strict=True):
        is_right = same(output, target)
        said, wanted = (Counter(_WORD.findall(text.casefold())) for text in (output, target))
        common = (said & wanted).total()
        precision, recall = _share(common, said.total()), _share(common, wanted.total())
        if is_right:
            precision = recall = 1.0
        right.append(float(is_right))
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(_f1(precision, recall))
    return Metrics(fmean(right), fmean(precisions), fmean(recalls), fmean(f1s))


def side_by_side(
    test: Sequence[str], base: Sequence[str], targets: Sequence[str], same: Same
) -> dict[str, int]:
    """In how many rows each of two models was right where the other was not, and in how many they drew."""
    wins = Counter(
        (same(tested, target), same(compared, target))
        for tested, compared, target in zip(test, base, targets, strict=True)
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
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0
