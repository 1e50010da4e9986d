"""A platform, and batches on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.triggers.job import JobTrigger
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.local_platform import LocalPlatform


@pytest.fixture
def start(platform: LocalPlatform) -> Callable[..., list[str]]:  # noqa: F811
    """Returns a function that starts batches and returns their ids."""

    def batches(count: int = 1, rows: int = 2) -> list[str]:
        body = {"model_name": platform.models[0], "prompt": ["a b"] * rows}
        with platform.client() as http:
            return [http.post("/v1/batch_completions", json=body).json()["id"] for _ in range(count)]

    return batches


@pytest.fixture
def trigger() -> Callable[..., JobTrigger]:
    """Returns a function that makes a trigger for batches with the given arguments.

    ``age`` is the age of the batches, ``seconds`` the time until the deadline.
    """

    def make(job_ids: list[str], **changes: Any) -> JobTrigger:
        now = time.time()
        arguments = {
            "conn_id": "lamini_default",
            "kind": "lamini/batch_completions",
            "job_ids": job_ids,
            "submitted_at": now - changes.pop("age", 0),
            "deadline": now + changes.pop("seconds", 60),
            "poll_interval": 0.5,
        }
        return JobTrigger(**arguments | changes)

    return make
