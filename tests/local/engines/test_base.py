"""Tests for the request and error classes that all engines share."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from airflow_provider_lamini.local.engines.base import GenerationRequest, ModelNotFound, PromptTooLong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "exactly one of prompt and messages"),
        ({"messages": []}, "exactly one of prompt and messages"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more, got 0"),
        ({"temperature": -0.1}, "temperature must be between 0 and 2"),
        ({"temperature": float("nan")}, "temperature must be between 0 and 2"),
    ],
)
def test_an_invalid_request_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationRequest(**({"model_name": "m", "prompt": "p", "max_tokens": 1} | changes))


@pytest.mark.parametrize("error", [ModelNotFound("m", ["a", "b"]), PromptTooLong(9, 8), PromptTooLong(0, 0)])
def test_an_error_survives_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
