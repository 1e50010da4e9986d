"""Operators that hold a worker during their requests: a kill ends each at once, and the next try succeeds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator
from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from tests.support.local_platform import wait_until
from tests.support.platforms import posts
from tests.support.tasks import kill_once, run_to_end
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.local_platform import LocalPlatform

PROMPTS = ["a one", "b two", "c three"]
ROWS = [{"input": prompt, "output": prompt[0]} for prompt in PROMPTS]
CLASSES = {"a": "letters", "b": "numbers"}
HANG_SECONDS = 8.0
"""Seconds until a hanging request ends by itself."""


@dataclass(frozen=True)
class Case:
    """An operator and the requests that it sends.

    :param operator: the operator's class
    :param path: path of its requests
    :param kept: how many requests of the first try the next one does not repeat
    :param requests: number of requests of an undisturbed try
    :param needs: creates what the operator needs on the platform, and returns the argument that names it
    """

    operator: type
    path: str
    arguments: dict[str, Any]
    requests: int = len(PROMPTS)
    kept: int = 0
    needs: Callable[[LocalPlatform], dict[str, Any]] = lambda _: {}


def classifier(platform: LocalPlatform) -> dict[str, Any]:
    with platform.client() as http:
        body = {"name": f"letters {uuid4()}", "model_name": TEXT_MODEL, "classes": CLASSES}
        job_id = http.post("/v2/classifier/initialize", json=body).json()["job_id"]
        status = f"/v2/classifier/{job_id}/status"
        wait_until(lambda: http.get(status).json()["model_id"])
        return {"model_id": http.get(status).json()["model_id"]}


def index(platform: LocalPlatform) -> dict[str, Any]:
    with platform.client() as http:
        sent = {"data": {"model_name": TEXT_MODEL}, "files": [("files", ("a.txt", b"a text"))]}
        job_id = http.post("/alpha/memory-rag/train", **sent).json()["job_id"]  # type: ignore[arg-type]
        look = {"json": {"job_id": job_id}}
        wait_until(lambda: http.post("/alpha/memory-rag/status", **look).json()["status"] == "COMPLETED")
        return {"index_id": job_id}


def requests(platform: LocalPlatform, path: str) -> int:
    """The number of requests to a path since the platform was reset."""
    return sum(count for asked, count in posts(platform).items() if re.fullmatch(f"POST {path}", asked))


FEW = {"max_in_flight": 1}
STORED = {"input": PROMPTS, "output": "{out}", "chunk_size": 1, **FEW}
TEXT = {"model_name": TEXT_MODEL}
CASES = {
    "completion": Case(LaminiCompletionOperator, "/v2/completions", {"prompt": PROMPTS, **TEXT, **FEW}),
    "chat": Case(LaminiChatOperator, "/inf/chat/completions", {"messages": PROMPTS, **TEXT, **FEW}),
    "inference": Case(
        LaminiBatchInferenceOperator,
        "/v2/completions",
        {**STORED, **TEXT, "endpoint": "completions"},
        kept=1,
    ),
    "embedding": Case(LaminiEmbeddingOperator, "/v1/embedding", {**STORED, "endpoint": "embedding"}, kept=1),
    "classify": Case(
        LaminiClassifyOperator, "/v2/classifier/[^/]+/classify", STORED, kept=1, needs=classifier
    ),
    "query": Case(LaminiMemoryRagQueryOperator, "/alpha/memory-rag/completions", STORED, kept=1, needs=index),
    "evaluate": Case(
        LaminiEvaluateOperator,
        "/v2/completions",
        {**STORED, **TEXT, "input": ROWS, "endpoint": "completions"},
        kept=1,
    ),
    "evaluate a classifier": Case(
        LaminiEvaluateClassifierOperator, "/v1/eval/run", {"input": ROWS}, requests=1, needs=classifier
    ),
    "upload": Case(LaminiUploadDatasetOperator, "/v1/local-data", {"input": ROWS}, requests=1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kill_ends_the_task_at_once_and_the_next_try_sends_the_rest(platform, tmp_path, name):
    case = CASES[name]
    arguments = {
        argument: str(tmp_path / "out") if value == "{out}" else value
        for argument, value in case.arguments.items()
    } | case.needs(platform)
    make = lambda: case.operator(task_id="ask", **arguments)  # noqa: E731
    # The second request hangs, or the first if there is only one.
    platform.control.fault(case.path, skip=min(1, case.requests - 1), delay=HANG_SECONDS, drop=True)

    seconds = kill_once(lambda: platform.control.faults()[0]["hits"] == 1, make)

    assert seconds < HANG_SECONDS / 2
    sent = min(2, case.requests)
    assert requests(platform, case.path) == sent
    platform.control.clear_faults()
    result = run_to_end(make).result
    assert requests(platform, case.path) == sent + case.requests - case.kept
    rows = result["counts"]["ok"] if "counts" in result else result.get("rows") or len(result["outputs"])
    assert rows == len(PROMPTS)
