"""What every engine has in common."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from airflow_provider_lamini.local.engines.base import GenerationRequest, ModelNotFound, PromptTooLong


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": None}, "exactly one of prompt and messages"),
        ({"messages": []}, "exactly one of prompt and messages"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more, got 0"),
        ({"temperature": -0.1}, "temperature must be between 0 and 2"),
        ({"temperature": float("nan")}, "temperature must be between 0 and 2"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GenerationRequest(**({"model_name": "m", "prompt": "p", "max_tokens": 1} | changes))


@pytest.mark.parametrize("error", [ModelNotFound("m", ["a", "b"]), PromptTooLong(9, 8), PromptTooLong(0, 0)])
def test_an_error_survives_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
