"""What ``finetune_args`` mean on this platform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from airflow_provider_lamini.platforms.lamini.api.training import LONGEST_INPUT, FinetuneArgs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json

ROWS_AT_ONCE: Final = 5
"""Rows of one forward pass; ``gradient_accumulation_steps`` of them are a step."""

RANK: Final = 16
"""The rank of the adapters where none is asked for: the platform's 64 is meant for models sixty times as large."""

SAVE_EVERY: Final = 10
"""Steps between two checkpoints where nothing is asked for: a step takes seconds here, a checkpoint less than one."""

ALPHA_PER_RANK: Final = 2


class LocalFinetuneArgs(FinetuneArgs):
    """``finetune_args`` within what one machine can do."""

    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 9e-4
    max_length: Annotated[int, Field(ge=16, le=LONGEST_INPUT)] = 2048
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=32)] = 2
    r_value: Annotated[int, Field(ge=1, le=256)] = RANK


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a job tunes.

    :param max_steps: steps in all
    :param learning_rate: the highest
    :param batch_size: rows of one step
    :param rank: of the adapters
    :param alpha: weight of the adapters, before it is divided by the rank
    :param max_length: tokens of one row at most
    :param save_every: steps between two checkpoints
    :param most_rows: rows to learn from at most, None for all
    """

    max_steps: int
    learning_rate: float
    batch_size: int
    rank: int
    alpha: float
    max_length: int
    save_every: int
    most_rows: int | None


def plan_of(given: Mapping[str, Json]) -> Plan:
    """Turn ``finetune_args`` into a plan; what this platform has no use for is left aside.

    :param given: the arguments, which have been checked
    """
    arguments = LocalFinetuneArgs.model_validate(given)
    save = arguments.save_steps if "save_steps" in arguments.model_fields_set else SAVE_EVERY
    if save < 1:  # a share of all steps
        save *= arguments.max_steps
    return Plan(
        max_steps=arguments.max_steps,
        learning_rate=arguments.learning_rate,
        batch_size=ROWS_AT_ONCE * arguments.gradient_accumulation_steps,
        rank=arguments.r_value,
        alpha=float(ALPHA_PER_RANK * arguments.r_value),
        max_length=arguments.max_length,
        save_every=max(1, math.floor(save)),
        most_rows=arguments.max_finetuning_examples,
    )
