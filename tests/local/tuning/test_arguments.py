"""Tests for the conversion of finetune_args to a training parameters."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.tuning.arguments import training_parameters


def test_the_default_plan_suits_a_small_model_on_a_cpu():
    parameters = training_parameters({})
    assert (parameters.max_steps, parameters.learning_rate, parameters.batch_size) == (100, 9e-4, 10)
    assert (parameters.rank, parameters.alpha, parameters.save_every, parameters.max_length) == (
        16,
        32.0,
        10,
        2048,
    )
    assert parameters.max_rows is None


@pytest.mark.parametrize(
    ("save_steps", "max_steps", "every"), [(60, 100, 60), (0.25, 40, 10), (0.001, 10, 1), (500, 100, 500)]
)
def test_save_steps_is_a_number_of_steps_or_a_fraction_of_all(save_steps, max_steps, every):
    assert training_parameters({"save_steps": save_steps, "max_steps": max_steps}).save_every == every


def test_unsupported_arguments_are_ignored():
    assert training_parameters({"index_k": 4, "optim": "adamw_torch", "unknown": [1]}) == training_parameters(
        {}
    )


def test_supported_arguments_are_applied():
    parameters = training_parameters(
        {
            "max_steps": 7,
            "r_value": 4,
            "gradient_accumulation_steps": 1,
            "max_finetuning_examples": 9,
            "max_length": 64,
        }
    )
    assert (parameters.max_steps, parameters.rank, parameters.alpha, parameters.batch_size) == (7, 4, 8.0, 5)
    assert (parameters.max_rows, parameters.max_length) == (9, 64)
