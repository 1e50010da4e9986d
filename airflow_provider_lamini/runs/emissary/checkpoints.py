"""Choosing a checkpoint of a training job."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.emissary.api import checkpoints
from airflow_provider_lamini.platforms.emissary.kinds import join_id
from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.runs.evaluation import ThresholdResult, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.platforms.emissary.api.checkpoints import TrainingJobCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which checkpoint to choose.

    :param checkpoint: its number; ``None`` for the newest, or for the best if there is a ``metric``
    :param metric: name of the aggregated test result to compare; ``None`` compares none
    :param lower_is_better: whether the lowest value of the metric is the best
    :param threshold: the worst value that is good enough; ``None`` for no threshold
    :param gate: what happens if it is missed: ``fail``, ``skip`` or ``return``
    """

    checkpoint: int | None
    metric: str | None
    lower_is_better: bool
    threshold: float | None
    gate: str


def choose_checkpoint(
    hook: EmissaryHook, project_id: str, training_job_id: str, choice: Choice
) -> dict[str, object]:
    """Choose a checkpoint of a training job.

    :param hook: the hook
    :param project_id: the project
    :param training_job_id: the training job
    :param choice: which one
    :return: the checkpoint, its test results, and whether it reaches the threshold
    :raises InvalidArgumentError: if there is no such checkpoint or test result
    :raises ThresholdMissedError: if it is not good enough and ``gate`` is ``fail``
    :raises AirflowSkipException: if it is not good enough and ``gate`` is ``skip``
    """
    found = hook.send(checkpoints.list_all(project_id, training_job_id))
    if not found:
        raise InvalidArgumentError(
            f"Training job {training_job_id} has no checkpoint. Check that it has succeeded, or train again."
        )
    chosen = _choose(found, choice)
    value = None if choice.metric is None else _value(chosen, choice.metric)
    passed = True
    if choice.threshold is not None and choice.metric is not None and value is not None:
        label = f"{choice.metric} of checkpoint {chosen.checkpoint}"
        result = ThresholdResult(label, value, choice.threshold, lower_is_better=choice.lower_is_better)
        passed = decide(choice.gate, [result])
    return {
        "job_id": join_id(project_id, training_job_id),
        "project_id": project_id,
        "training_job_id": training_job_id,
        "checkpoint": chosen.checkpoint,
        "metric": choice.metric,
        "value": value,
        "passed": passed,
        "test_results": _results(chosen),
    }


def _choose(found: Sequence[TrainingJobCheckpoint], choice: Choice) -> TrainingJobCheckpoint:
    by_age = sorted(found, key=lambda each: each.checkpoint)
    if choice.checkpoint is not None:
        for each in by_age:
            if each.checkpoint == choice.checkpoint:
                _require(each, choice.metric)
                return each
        numbers = ", ".join(str(each.checkpoint) for each in by_age)
        raise InvalidArgumentError(f"checkpoint: there is no {choice.checkpoint}, only {numbers}.")
    if choice.metric is None:
        return by_age[-1]
    metric = choice.metric
    measured = [each for each in by_age if not math.isnan(_value(each, metric))]
    if not measured:
        _require(by_age[-1], metric)
    sign = -1 if choice.lower_is_better else 1
    return max(measured, key=lambda each: (sign * _value(each, metric), each.checkpoint))


def _require(checkpoint: TrainingJobCheckpoint, metric: str | None) -> None:
    """Refuse a checkpoint without the test result that the user asks for."""
    if metric is not None and math.isnan(_value(checkpoint, metric)):
        known = [name for name, result in _results(checkpoint).items() if not math.isnan(finite(result))]
        raise InvalidArgumentError(
            f"metric: checkpoint {checkpoint.checkpoint} has no number for {metric!r}; test results that are numbers: "
            f"{', '.join(known) or 'none'}."
        )


def _results(checkpoint: TrainingJobCheckpoint) -> dict[str, str]:
    return {} if checkpoint.test_results is None else checkpoint.test_results.aggregated_test_result


def _value(checkpoint: TrainingJobCheckpoint, metric: str) -> float:
    """The number of a test result, which the platform sends as a text; NaN if there is none."""
    return finite(_results(checkpoint).get(metric))
