"""A platform, a connection to it, and operators that infer with it."""

from __future__ import annotations

import runpy
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.knowledge_platform import knowledge  # noqa: F401 - fixtures
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures
from tests.support.results import rows_in
from tests.support.tasks import WAITING, maker
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

    return maker(
        LaminiBatchInferenceOperator,
        task_id="infer",
        input=PROMPTS,
        model_name=platform.models[0],
        output=str(out),
        chunk_size=10,
        max_in_flight=2,
        **WAITING,
    )


@pytest.fixture
def embed(platform: LocalPlatform, out: Path) -> Callable[..., Callable[[], Any]]:  # noqa: ARG001, F811 - it leads there
    """The same for vectors of the 25 prompts."""
    from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

    return maker(
        LaminiEmbeddingOperator,
        task_id="embed",
        input=PROMPTS,
        output=str(out),
        chunk_size=10,
        max_in_flight=2,
        **WAITING,
    )


@pytest.fixture
def rows(out: Path) -> Callable[[], list[dict[str, Any]]]:
    """Returns a function that reads the rows of all parts, in the order of the parts."""
    return lambda: rows_in(out)


@pytest.fixture
def error_rows(out: Path) -> Callable[[], list[dict[str, Any]]]:
    """Returns a function that reads the rows of all errors files."""
    return lambda: rows_in(out, "errors-*.jsonl")


@pytest.fixture
def dag_in(airflow_home: Path) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Returns a function that puts a file into Airflow's Dags folder and returns what it defines, by name."""
    there: list[Path] = []

    def read(file: Path) -> dict[str, Any]:
        there.append(airflow_home / "dags" / file.name)
        shutil.copy(file, there[-1])
        return runpy.run_path(str(there[-1]))

    yield read
    for file in there:
        file.unlink(missing_ok=True)
