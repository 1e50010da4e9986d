"""Thresholds of an evaluation, and what happens where one is missed. For tasks that run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_lamini.exceptions import InvalidArgumentError, ThresholdMissedError
from airflow_provider_lamini.runs.arguments import finite, json_object, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

GATES = ("fail", "skip", "return")


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """How one number stands to its threshold.

    :param what: the number, for a person
    :param value: the number
    :param least: the threshold
    """

    what: str
    value: float
    least: float

    @property
    def met(self) -> bool:
        """Whether the number reaches the threshold."""
        # Means of the same scores may differ in their last digits.
        return self.value >= self.least or math.isclose(self.value, self.least, rel_tol=1e-9, abs_tol=1e-9)

    def __str__(self) -> str:
        return f"{self.what} is {self.value:.4g}, at least {self.least:.4g} is wanted"


def thresholds_of(name: str, given: object) -> dict[str, float]:
    """Thresholds by metric.

    :param name: the argument, for the message
    :param given: a mapping of metric to number, its JSON text, or ``None``
    :raises InvalidArgumentError: where it is none
    """
    found: dict[str, float] = {}
    for metric, value in (json_object(name, given) or {}).items():
        number = finite(value)
        if math.isnan(number):
            raise InvalidArgumentError(
                f"{name}: the threshold of {shown(metric)} must be a number, not {shown(value)}."
            )
        found[metric] = number
    return found


def check_names(name: str, thresholds: Mapping[str, float], known: Mapping[str, object]) -> None:
    """Make sure that thresholds are of metrics that there are.

    :param name: the argument, for the message
    :param thresholds: by metric
    :param known: the metrics
    :raises InvalidArgumentError: where one is of another
    """
    for metric in thresholds:
        if metric not in known:
            raise InvalidArgumentError(
                f"{name} names the metric {shown(metric)}, but there are only {', '.join(known) or 'none'}."
            )


def decide(gate: str, verdicts: list[ThresholdResult], report: str) -> bool:
    """Let a task pass, fail it, skip what comes after it, or say how it is.

    :param gate: ``fail``, ``skip`` or ``return``
    :param verdicts: how the numbers stand to their thresholds
    :param report: where the report is
    :return: whether all thresholds are met
    :raises NotGoodEnoughError: for ``fail``, where one is missed
    :raises AirflowSkipException: for ``skip``, where one is missed
    """
    missed = [str(verdict) for verdict in verdicts if not verdict.met]
    if not missed or gate == "return":
        return not missed
    message = f"The model is not good enough: {'; '.join(missed)}. The report is in {report}."
    raise ThresholdMissedError(message) if gate == "fail" else AirflowSkipException(message)
