"""What finetune_args mean on this machine."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.tuning.arguments import plan_of


def test_without_arguments_a_plan_fits_a_small_model_on_a_cpu():
    plan = plan_of({})
    assert (plan.max_steps, plan.learning_rate, plan.batch_size) == (100, 9e-4, 10)
    assert (plan.rank, plan.alpha, plan.save_every, plan.max_length) == (16, 32.0, 10, 2048)
    assert plan.most_rows is None


@pytest.mark.parametrize(
    ("save_steps", "max_steps", "every"), [(60, 100, 60), (0.25, 40, 10), (0.001, 10, 1), (500, 100, 500)]
)
def test_checkpoints_come_after_steps_or_a_share_of_all_steps(save_steps, max_steps, every):
    assert plan_of({"save_steps": save_steps, "max_steps": max_steps}).save_every == every


def test_arguments_that_have_no_meaning_here_change_nothing():
    assert plan_of({"index_k": 4, "optim": "adamw_torch", "unknown": [1]}) == plan_of({})


def test_what_is_asked_for_is_done():
    plan = plan_of(
        {
            "max_steps": 7,
            "r_value": 4,
            "gradient_accumulation_steps": 1,
            "max_finetuning_examples": 9,
            "max_length": 64,
        }
    )
    assert (plan.max_steps, plan.rank, plan.alpha, plan.batch_size) == (7, 4, 8.0, 5)
    assert (plan.most_rows, plan.max_length) == (9, 64)
