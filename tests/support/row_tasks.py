"""A fixture for tests of all operators that do the same to every row of an input."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.knowledge_platform import Scripted
from tests.support.tasks import WAITING, maker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.knowledge_platform import KnowledgePlatform

OPERATORS = ["batch", "completions", "chat", "embed batch", "embed", "classify", "rag"]
DIRECT = ["completions", "chat", "embed", "classify", "rag"]
"""Those that send requests without jobs."""
each_operator = pytest.mark.parametrize("operator", OPERATORS)


@pytest.fixture
def task(request: pytest.FixtureRequest, operator: str, out: Path) -> Callable[..., Callable[[], Any]]:
    """Returns a function that takes arguments and returns a factory of operators, which process chunks of four rows.

    :param operator: one of `OPERATORS`
    """
    if operator in {"batch", "completions", "chat"}:
        return partial(request.getfixturevalue("inference"), endpoint=operator, chunk_size=4)
    if operator in {"embed batch", "embed"}:
        endpoint = "batch" if operator == "embed batch" else "embedding"
        return partial(request.getfixturevalue("embed"), endpoint=endpoint, chunk_size=4)
    return _knowledge_task(request.getfixturevalue("knowledge"), operator, out)


def _knowledge_task(
    knowledge: KnowledgePlatform, operator: str, out: Path
) -> Callable[..., Callable[[], Any]]:
    from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
    from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator

    index = knowledge.indexes["1"] = Scripted(("COMPLETED",))
    index.files = {"a.md": b"alpha is first"}
    options = {"task_id": "t", "input": ["a"], "output": str(out), "chunk_size": 4, **WAITING}
    if operator == "classify":
        return maker(LaminiClassifyOperator, model_id="model-c1", **options)
    return maker(LaminiMemoryRagQueryOperator, index_id="1", **options)
