"""The ``finetune_args`` of a tuning job, and the training plan that they result in on this platform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from airflow_provider_lamini.platforms.lamini.api.training import LONGEST_INPUT, FinetuneArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json

ROWS_PER_PASS: Final = 5
"""Rows per forward pass; a step accumulates the gradients of ``gradient_accumulation_steps`` passes."""

RANK: Final = 16
"""Default rank of the adapter; Lamini's default of 64 is meant for models sixty times as large."""

SAVE_EVERY: Final = 10
"""Default number of steps between checkpoints; a step takes seconds, a checkpoint less than one."""

ALPHA_PER_RANK: Final = 2


class LocalFinetuneArgs(FinetuneArgs):
    """``finetune_args`` with defaults and limits for one machine."""

    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 9e-4
    max_length: Annotated[int, Field(ge=16, le=LONGEST_INPUT)] = 2048
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=32)] = 2
    r_value: Annotated[int, Field(ge=1, le=256)] = RANK


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingParameters:
    """Training parameters of a tuning job.

    :param max_steps: total number of steps
    :param learning_rate: peak learning rate
    :param batch_size: rows per step
    :param rank: rank of the LoRA matrices
    :param alpha: LoRA alpha, before it is divided by the rank
    :param max_length: maximum tokens per row
    :param save_every: steps between checkpoints
    :param max_rows: maximum rows to train on; ``None`` for all
    """

    max_steps: int
    learning_rate: float
    batch_size: int
    rank: int
    alpha: float
    max_length: int
    save_every: int
    max_rows: int | None


def training_parameters(finetune_args: Mapping[str, Json]) -> TrainingParameters:
    """Convert ``finetune_args`` to a plan; arguments that this platform does not support are ignored.

    :param finetune_args: validated arguments
    """
    arguments = LocalFinetuneArgs.model_validate(finetune_args)
    save = arguments.save_steps if "save_steps" in arguments.model_fields_set else SAVE_EVERY
    if save < 1:  # a fraction of all steps
        save *= arguments.max_steps
    return TrainingParameters(
        max_steps=arguments.max_steps,
        learning_rate=arguments.learning_rate,
        batch_size=ROWS_PER_PASS * arguments.gradient_accumulation_steps,
        rank=arguments.r_value,
        alpha=float(ALPHA_PER_RANK * arguments.r_value),
        max_length=arguments.max_length,
        save_every=max(1, math.floor(save)),
        max_rows=arguments.max_finetuning_examples,
    )
