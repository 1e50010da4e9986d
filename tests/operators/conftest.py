"""A platform, a connection to it, and operators that infer with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.knowledge_platform import knowledge  # noqa: F401 - fixtures
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures
from tests.support.tuning_platform import blobs, tuning, tuning_with_blobs  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform

PROMPTS = [f"row {number} of all" for number in range(25)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder, not there yet."""
    return tmp_path / "out"


@pytest.fixture
def inference(platform: LocalPlatform, out: Path) -> Callable[..., Callable[[], Any]]:  # noqa: F811
    """Returns a function that makes a new operator of the same arguments each time.

    What is not given: the 25 prompts, in chunks of 10, two jobs at once, deferred, looked at often.
    """
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

    def of(**given: Any) -> Callable[[], Any]:
        arguments = {
            "task_id": "infer",
            "input": PROMPTS,
            "model_name": platform.models[0],
            "output": str(out),
            "chunk_size": 10,
            "max_in_flight": 2,
            "deferrable": True,
            "poll_interval": 0.5,
            "timeout": 30,
        } | given
        return lambda: LaminiBatchInferenceOperator(**arguments)

    return of


@pytest.fixture
def rows(out: Path) -> Callable[[], list[dict[str, Any]]]:
    """Returns a function that reads the rows of all parts, in the order of the parts."""

    def read() -> list[dict[str, Any]]:
        lines = (line for part in sorted(out.glob("part-*.jsonl")) for line in _lines(part))
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture
def error_rows(out: Path) -> Callable[[], list[dict[str, Any]]]:
    """Returns a function that reads the rows of all errors files."""

    def read() -> list[dict[str, Any]]:
        lines = (line for part in sorted(out.glob("errors-*.jsonl")) for line in _lines(part))
        return [json.loads(line) for line in lines]

    return read


def _lines(path: Path) -> Iterator[str]:
    yield from path.read_text().splitlines()
