"""Evaluating models: metrics, one number per row, and thresholds for their means."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_lamini.exceptions import InvalidArgumentError, ThresholdMissedError
from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.runs.arguments import json_object, shown
from airflow_provider_lamini.wording import a_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json

Metric = Callable[[str, "Json"], float]
"""Takes the right answer and the model's output, and returns a number: the higher, the better. Usually from 0 to 1."""

_WORD = re.compile(r"(?:(?<!\w)-(?=\d))?\w+(?:[+#]+(?!\w))?")
"""A word, with what tells -5 from 5 and C++ from C#."""
_WHOLE_NUMBER = re.compile(r"(?<![\w.])(\d+)\.0+(?!\w|\.\d)")
"""A whole number with zeros behind its point, as pandas writes those of a column in which one is missing."""


def exact_match(expected: str, output: Json) -> float:
    """Whether both have the same words in the same order, regardless of case, blanks and punctuation.

    The sign of a number counts, but 5.0 is 5. In texts without any word, such as an emoji, all other characters count. If the
    output is not a text, the order of keys does not count.

    :param expected: the right answer
    :param output: the model's answer
    :return: 1 or 0
    """
    right, actual = _words_of_both(expected, output)
    return float(right == actual)


def token_f1(expected: str, output: Json) -> float:
    """How many words both share: the harmonic mean of precision and recall over words.

    :param expected: the right answer
    :param output: the model's answer
    :return: 0 to 1
    """
    right, actual = map(Counter, _words_of_both(expected, output))
    if not right or not actual:
        return float(right == actual)
    return 2 * (right & actual).total() / (right.total() + actual.total())


_BUILT_IN: dict[str, Metric] = {"exact_match": exact_match, "token_f1": token_f1}


def parse_metrics(value: object) -> dict[str, Metric]:
    """Validate an operator's ``metrics``.

    :param value: a list of ``exact_match``, ``token_f1``, callables and dotted paths of callables
    :return: the metrics by name; a callable has its own name
    :raises InvalidArgumentError: if it is anything else, or two metrics have the same name
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InvalidArgumentError(
            f"metrics must be a list of {', '.join(_BUILT_IN)}, callables or their dotted paths, not {shown(value)}."
        )
    found: dict[str, Metric] = {}
    for item in value:
        name, metric = _metric(item)
        if name in found:
            raise InvalidArgumentError(f"metrics has two with the name {name!r}.")
        found[name] = metric
    return found


def score(name: str, metric: Metric, expected: str, output: Json, row: int) -> float:
    """One row's score.

    :param name: the metric's name, for the message
    :param metric: the metric
    :param expected: the right answer
    :param output: the model's answer
    :param row: the row's number in the input, for the message
    :raises InvalidArgumentError: if the metric raises, or returns anything but a finite number
    """
    try:
        value: object = metric(expected, output)
    except Exception as error:
        raise InvalidArgumentError(
            f"metric {name!r} failed on row {row} with {type(error).__name__}: fix it, then clear the task; "
            "no model is asked again."
        ) from error
    if not isinstance(value, int | float) or not math.isfinite(value):
        actual = value if isinstance(value, float) else a_type(value)
        raise InvalidArgumentError(
            f"metric {name!r} returned {actual} for row {row}; a finite number is expected."
        )
    return float(value)


def _metric(value: object) -> tuple[str, Metric]:
    if isinstance(value, str):
        return (value, _BUILT_IN[value]) if value in _BUILT_IN else _imported(value)
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__)), value
    raise InvalidArgumentError(
        f"metrics has {a_type(value)}: give {', '.join(_BUILT_IN)}, callables or their dotted paths."
    )


def _imported(path: str) -> tuple[str, Metric]:
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module or not name:
        raise InvalidArgumentError(
            f"metrics: {shown(path)} is not known: give {', '.join(_BUILT_IN)}, or a path such as 'my_package.metrics.rouge'."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"metrics: {shown(path)} cannot be imported: {error}.") from error
    if not callable(found):
        raise InvalidArgumentError(f"metrics: {shown(path)} is {a_type(found)}, not a callable.")
    return name, found


class _MarksAsLetters(dict[int, str]):
    """Writes marks, such as the vowel signs of Hindi and Thai, as letters, which regular expressions do not take them for."""

    def __missing__(self, code: int) -> str:
        is_mark = unicodedata.category(chr(code)) in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F  # noqa: PLR2004 - of emojis
        self[code] = f"_{code:x}" if is_mark else chr(code)
        return self[code]


_MARKS = _MarksAsLetters({ord("\N{MINUS SIGN}"): "-"})


def _words(text: str) -> list[str]:
    """The words of a text; if there are none, as in an emoji, what stands between blanks."""
    plain = _WHOLE_NUMBER.sub(r"\1", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(plain if plain.isascii() else plain.translate(_MARKS)) or plain.split()


def _words_of_both(expected: str, output: Json) -> tuple[list[str], list[str]]:
    """The words of the right answer and of an output. Values that are equal in JSON have the same words."""
    if isinstance(output, str):
        return _words(expected), _words(output)
    with suppress(msgspec.DecodeError, RecursionError):  # then the right answer is a text
        expected = _json_text(msgspec.json.decode(expected))
    return _words(expected), _words(_json_text(output))


def _json_text(value: Json) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


GATES = ("fail", "skip", "return")


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """A number, compared with its threshold.

    :param label: what the number is, for messages
    :param value: the number
    :param threshold: the worst value that is good enough
    :param lower_is_better: whether that is the largest one, not the smallest
    """

    label: str
    value: float
    threshold: float
    lower_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the number reaches the threshold."""
        # Means of the same scores may differ in their last digits.
        good = self.value <= self.threshold if self.lower_is_better else self.value >= self.threshold
        return good or math.isclose(self.value, self.threshold, rel_tol=1e-9, abs_tol=1e-9)

    def __str__(self) -> str:
        bound = "at most" if self.lower_is_better else "at least"
        return f"{self.label} is {self.value:.4g} ({bound} {self.threshold:.4g} is required)"


def parse_thresholds(name: str, value: object) -> dict[str, float]:
    """Validate thresholds.

    :param name: the argument, for the message
    :param value: a mapping of metric to number, its JSON text, or ``None``
    :return: the thresholds by metric
    :raises InvalidArgumentError: if it is anything else
    """
    found: dict[str, float] = {}
    for metric, item in (json_object(name, value) or {}).items():
        number = finite(item)
        if math.isnan(number):
            raise InvalidArgumentError(
                f"{name}: the threshold of {shown(metric)} must be a number, not {shown(item)}."
            )
        found[metric] = number
    return found


def check_thresholds(name: str, thresholds: Mapping[str, float], known: Mapping[str, object]) -> None:
    """Check that thresholds name known metrics, and can be reached.

    :param name: the argument, for the message
    :param thresholds: the thresholds by metric
    :param known: the metrics by name
    :raises InvalidArgumentError: if one names another metric, or is larger than a metric of this package can be
    """
    for metric, number in thresholds.items():
        if metric not in known:
            raise InvalidArgumentError(
                f"{name} names the metric {shown(metric)}, but there are only {', '.join(known) or 'none'}."
            )
        if number > 1 and known[metric] in _BUILT_IN.values():
            raise InvalidArgumentError(
                f"{name}: {metric} is at most 1, so it cannot be {number:g}. Write 90 percent as 0.9."
            )


def decide(gate: str, results: list[ThresholdResult], report: str | None = None) -> bool:
    """Pass, fail or skip a task, or return whether all thresholds are met.

    :param gate: ``fail``, ``skip`` or ``return``
    :param results: the numbers, compared with their thresholds
    :param report: where the report is; ``None`` if there is none
    :return: whether all thresholds are met
    :raises ThresholdMissedError: for ``fail``, if one is missed
    :raises AirflowSkipException: for ``skip``, if one is missed
    """
    missed = [str(result) for result in results if not result.met]
    if not missed or gate == "return":
        return not missed
    message = f"The model is not good enough: {'; '.join(missed)}."
    message += f" The report is in {report}." if report is not None else ""
    raise ThresholdMissedError(message) if gate == "fail" else AirflowSkipException(message)
