"""Tests for the learning rate schedule of a recipe."""

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
    return [recipe.learning_rate_at(step) for step in range(1, steps + 1)]


def test_the_learning_rate_warms_up_over_a_tenth_of_the_steps_and_decays_to_a_tenth():
    learning_rates = rates(100)
    highest = learning_rates.index(max(learning_rates))
    assert highest == 10
    assert 0.9 <= learning_rates[highest] <= 1.0
    assert all(earlier < later for earlier, later in pairwise(learning_rates[: highest + 1]))
    assert all(earlier > later for earlier, later in pairwise(learning_rates[highest:]))
    assert learning_rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_short_training_starts_at_the_peak_learning_rate(steps):
    assert rates(steps)[0] == 1.0
