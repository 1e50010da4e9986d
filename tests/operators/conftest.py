"""A platform, a connection to it, and operators that infer with it."""

from __future__ import annotations

import runpy
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.emissary_platform import emissary  # noqa: F401 - a fixture
from tests.support.knowledge_platform import knowledge  # noqa: F401 - fixtures
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures
from tests.support.results import rows_in
from tests.support.row_tasks import task  # noqa: F401 - a fixture
from tests.support.tasks import WAITING, maker
from tests.support.tuning_platform import blobs, tuning, tuning_with_blobs  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform

PROMPTS = [f"row {number} of all" for number in range(25)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder, which does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def inference(platform: LocalPlatform, out: Path) -> Callable[..., Callable[[], Any]]:  # noqa: F811
    """Returns a function that takes arguments and returns a factory of operators.

    Defaults: the 25 prompts in chunks of 10, at most two jobs at a time, deferred, polled often.
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
def embed(platform: LocalPlatform, out: Path) -> Callable[..., Callable[[], Any]]:  # noqa: ARG001, F811 - the connection points to it
    """The same for embeddings of the 25 prompts."""
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
def load_dags(airflow_home: Path) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Returns a function that copies a file into Airflow's Dags folder, runs it, and returns its globals."""
    copies: list[Path] = []

    def load(file: Path) -> dict[str, Any]:
        copies.append(airflow_home / "dags" / file.name)
        shutil.copy(file, copies[-1])
        return runpy.run_path(str(copies[-1]))

    yield load
    for file in copies:
        file.unlink(missing_ok=True)
