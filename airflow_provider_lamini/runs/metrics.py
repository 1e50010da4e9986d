"""How good an output is beside the answer that is right: metrics, one number per row. For tasks that run."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.arguments import shown

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

Metric = Callable[[str, "Json"], float]
"""Takes the answer that is right and the model's output; 1 is best and 0 worst, or any number where more is better."""

_WORD = re.compile(r"\w+")


def exact_match(expected: str, output: Json) -> float:
    """Whether both are the same words in the same order; case, blanks and punctuation do not count.

    :param expected: the answer that is right
    :param output: the model's
    :return: 1 or 0
    """
    return float(_words(expected) == _words(_as_text(output)))


def token_f1(expected: str, output: Json) -> float:
    """How many words both share: the harmonic mean of precision and recall over words.

    :param expected: the answer that is right
    :param output: the model's
    :return: 0 to 1
    """
    right, given = Counter(_words(expected)), Counter(_words(_as_text(output)))
    if not right or not given:
        return float(right == given)
    return 2 * (right & given).total() / (right.total() + given.total())


_OWN: dict[str, Metric] = {"exact_match": exact_match, "token_f1": token_f1}


def metrics_of(given: object) -> dict[str, Metric]:
    """The metrics that a user has asked for, by name.

    :param given: a list of ``exact_match``, ``token_f1``, callables and dotted paths of callables; a callable is
        known by its own name
    :raises InvalidArgumentError: where one is none, or two have one name
    """
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InvalidArgumentError(
            f"metrics must be a list of {', '.join(_OWN)}, callables or their dotted paths, not {shown(given)}."
        )
    found: dict[str, Metric] = {}
    for each in given:
        name, metric = _metric(each)
        if name in found:
            raise InvalidArgumentError(f"metrics has two that are called {name!r}.")
        found[name] = metric
    return found


def score(name: str, metric: Metric, expected: str, output: Json, row: int) -> float:
    """One row's score.

    :param name: the metric's name, for the message
    :param metric: the metric
    :param expected: the answer that is right
    :param output: the model's
    :param row: the row's number in the input, for the message
    :raises InvalidArgumentError: where the metric raises, or gives something else than a finite number
    """
    try:
        value: object = metric(expected, output)
    except Exception as error:
        raise InvalidArgumentError(
            f"metric {name!r} failed on row {row} with {type(error).__name__}: correct it, then clear the task; "
            "the models are not asked again."
        ) from error
    if not isinstance(value, int | float) or not math.isfinite(value):
        shown = value if isinstance(value, float) else f"a {type(value).__name__}"
        raise InvalidArgumentError(
            f"metric {name!r} gave {shown} for row {row}; a finite number is expected."
        )
    return float(value)


def _metric(given: object) -> tuple[str, Metric]:
    if isinstance(given, str):
        return (given, _OWN[given]) if given in _OWN else _imported(given)
    if callable(given):
        return str(getattr(given, "__name__", type(given).__name__)), given
    raise InvalidArgumentError(
        f"metrics holds a {type(given).__name__}: give {', '.join(_OWN)}, callables or their dotted paths."
    )


def _imported(path: str) -> tuple[str, Metric]:
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module or not name:
        raise InvalidArgumentError(
            f"metrics: {shown(path)} is not known: give {', '.join(_OWN)}, or a path such as 'my_package.metrics.rouge'."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"metrics: {shown(path)} cannot be imported: {error}.") from error
    if not callable(found):
        raise InvalidArgumentError(f"metrics: {shown(path)} is a {type(found).__name__}, not a callable.")
    return name, found


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _as_text(output: Json) -> str:
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()
