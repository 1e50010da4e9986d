"""What a recipe decides before anything is trained."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from airflow_provider_lamini.local.tuning.trainer import Recipe


def rates(steps: int) -> list[float]:
    recipe = Recipe(
        base=Path("base.gguf"),
        rows=Path("rows.jsonl"),
        folder=Path("job"),
        max_steps=steps,
        learning_rate=1.0,
    )
    return [recipe.rate_of(step) for step in range(1, steps + 1)]


def test_the_learning_rate_rises_over_the_first_tenth_of_the_steps_and_falls_to_a_tenth():
    told = rates(100)
    highest = told.index(max(told))
    assert highest == 10
    assert 0.9 <= told[highest] <= 1.0
    assert all(one < later for one, later in pairwise(told[: highest + 1]))
    assert all(one > later for one, later in pairwise(told[highest:]))
    assert told[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_few_steps_begin_with_the_whole_learning_rate(steps):
    assert rates(steps)[0] == 1.0
