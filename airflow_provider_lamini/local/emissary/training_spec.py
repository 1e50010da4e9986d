"""What a training job does: its request with all defaults, as the job store keeps it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

MAX_STEPS: Final = 100_000
MAX_CHECKPOINTS: Final = 10
"""Maximum number of checkpoints that a job keeps; each is an adapter of some megabytes."""

DEFAULT_TEST_PERCENT: Final = 20.0
"""Percent of the rows that are held out for test functions if the request names no test rows."""


class TextParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Hyperparameters of SFT for text generation, with their defaults.

    :param learning_rate: peak learning rate
    :param num_train_epochs: passes over the rows
    :param per_device_train_batch_size: rows per step
    :param downsample_size: maximum rows to train on, or their share if it is below 1; 0 for all
    """

    learning_rate: float = 1e-3
    num_train_epochs: float = 4
    per_device_train_batch_size: int = 10
    downsample_size: float = 0


class RewardParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Hyperparameters of GRPO, with their defaults.

    :param learning_rate: peak learning rate
    :param num_train_epochs: passes over the rows
    :param num_generations: outputs per row that are compared by their rewards
    :param per_device_train_batch_size: rows per step
    """

    learning_rate: float = 2e-4
    num_train_epochs: float = 1
    num_generations: int = 4
    per_device_train_batch_size: int = 4


class ClassifierParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Hyperparameters of SFT for classification, with their defaults.

    :param downsample_size: maximum rows to train on, or their share if it is below 1; 0 for all
    """

    downsample_size: float = 0


class TrainingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A training job as it was requested.

    :param project: id of the project
    :param name: name of the job; empty if the request has none
    :param description: a text for people
    :param technique: SFT or GRPO
    :param task_type: what the model learns
    :param base: served name of the base model
    :param fine_tuned: name of the training job to continue from; None to start from the base model
    :param fine_tuned_checkpoint: number of the checkpoint to continue from
    :param start: file of that checkpoint
    :param dataset: id of the dataset to train on
    :param dataset_name: its name
    :param test_dataset: id of the dataset to test on
    :param test_percent: percent of the training dataset that is held out for tests; 0 for none
    :param test_functions: names of the test functions
    :param reward: with GRPO: test function to weight
    :param rebalance: label to a share of its rows, or to their number
    :param parameters: hyperparameters with defaults
    """

    project: str
    name: str
    description: str = ""
    technique: Literal["SFT", "GRPO"]
    task_type: Literal["text-generation", "classification"]
    base: str
    fine_tuned: str | None = None
    fine_tuned_checkpoint: int | None = None
    start: str | None = None
    dataset: str
    dataset_name: str
    test_dataset: str | None = None
    test_percent: float = 0.0
    test_functions: list[str] = []
    reward: dict[str, float] = {}
    rebalance: dict[str, float] = {}
    parameters: dict[str, bool | int | float | str]

    def to_params(self) -> dict[str, Json]:
        """Return the parameters of the job that :meth:`from_params` reads."""
        params: dict[str, Json] = msgspec.to_builtins(self)
        return params

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> TrainingSpec:
        """Restore the specification from a job's parameters."""
        return msgspec.convert(params, cls)


def step_plan(rows: int, epochs: float, batch_size: int) -> tuple[int, int]:
    """Return the number of steps, and the steps between checkpoints: one per epoch, unless those are too many.

    :param rows: number of rows
    :param epochs: passes over the rows
    :param batch_size: rows per step
    """
    steps = min(MAX_STEPS, max(1, math.ceil(rows * epochs / min(batch_size, rows))))
    per_epoch = math.ceil(rows / batch_size)
    return steps, max(per_epoch, math.ceil(steps / MAX_CHECKPOINTS))
