"""Tests for the conversion of finetune_args to a training plan."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.tuning.arguments import make_plan


def test_the_default_plan_suits_a_small_model_on_a_cpu():
    plan = make_plan({})
    assert (plan.max_steps, plan.learning_rate, plan.batch_size) == (100, 9e-4, 10)
    assert (plan.rank, plan.alpha, plan.save_every, plan.max_length) == (16, 32.0, 10, 2048)
    assert plan.max_rows is None


@pytest.mark.parametrize(
    ("save_steps", "max_steps", "every"), [(60, 100, 60), (0.25, 40, 10), (0.001, 10, 1), (500, 100, 500)]
)
def test_save_steps_is_a_number_of_steps_or_a_fraction_of_all(save_steps, max_steps, every):
    assert make_plan({"save_steps": save_steps, "max_steps": max_steps}).save_every == every


def test_unsupported_arguments_are_ignored():
    assert make_plan({"index_k": 4, "optim": "adamw_torch", "unknown": [1]}) == make_plan({})


def test_supported_arguments_are_applied():
    plan = make_plan(
        {
            "max_steps": 7,
            "r_value": 4,
            "gradient_accumulation_steps": 1,
            "max_finetuning_examples": 9,
            "max_length": 64,
        }
    )
    assert (plan.max_steps, plan.rank, plan.alpha, plan.batch_size) == (7, 4, 8.0, 5)
    assert (plan.max_rows, plan.max_length) == (9, 64)
