"""Operators that hold a worker while the platform answers: killed, each ends at once, and its next try ends well."""

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
LATE = 8.0
"""Seconds until a request that hangs ends by itself."""


@dataclass(frozen=True)
class Asking:
    """One way to ask.

    :param operator: its class
    :param path: what it asks
    :param kept: requests of the first try that its next try does not send again
    :param requests: how many it sends when nothing comes in between
    :param needs: makes what it asks on the platform, and returns the argument that names it
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
    """How often a path was asked since the platform was reset."""
    return sum(count for asked, count in posts(platform).items() if re.fullmatch(f"POST {path}", asked))


FEW = {"max_in_flight": 1}
STORED = {"input": PROMPTS, "output": "{out}", "chunk_size": 1, **FEW}
TEXT = {"model_name": TEXT_MODEL}
WAYS = {
    "completion": Asking(LaminiCompletionOperator, "/v2/completions", {"prompt": PROMPTS, **TEXT, **FEW}),
    "chat": Asking(LaminiChatOperator, "/inf/chat/completions", {"messages": PROMPTS, **TEXT, **FEW}),
    "inference": Asking(
        LaminiBatchInferenceOperator,
        "/v2/completions",
        {**STORED, **TEXT, "endpoint": "completions"},
        kept=1,
    ),
    "embedding": Asking(
        LaminiEmbeddingOperator, "/v1/embedding", {**STORED, "endpoint": "embedding"}, kept=1
    ),
    "classify": Asking(
        LaminiClassifyOperator, "/v2/classifier/[^/]+/classify", STORED, kept=1, needs=classifier
    ),
    "query": Asking(
        LaminiMemoryRagQueryOperator, "/alpha/memory-rag/completions", STORED, kept=1, needs=index
    ),
    "evaluate": Asking(
        LaminiEvaluateOperator,
        "/v2/completions",
        {**STORED, **TEXT, "input": ROWS, "endpoint": "completions"},
        kept=1,
    ),
    "evaluate a classifier": Asking(
        LaminiEvaluateClassifierOperator, "/v1/eval/run", {"input": ROWS}, requests=1, needs=classifier
    ),
    "upload": Asking(LaminiUploadDatasetOperator, "/v1/local-data", {"input": ROWS}, requests=1),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_kill_ends_the_task_at_once_and_the_next_try_sends_what_is_left(platform, tmp_path, way):
    asking = WAYS[way]
    given = {
        name: str(tmp_path / "out") if value == "{out}" else value for name, value in asking.arguments.items()
    } | asking.needs(platform)
    make = lambda: asking.operator(task_id="ask", **given)  # noqa: E731
    # The request before the last hangs, or the only one.
    platform.control.fault(asking.path, skip=min(1, asking.requests - 1), delay=LATE, drop=True)

    seconds = kill_once(lambda: platform.control.faults()[0]["hits"] == 1, make)

    assert seconds < LATE / 2
    sent = min(2, asking.requests)
    assert requests(platform, asking.path) == sent
    platform.control.clear_faults()
    result = run_to_end(make).result
    assert requests(platform, asking.path) == sent + asking.requests - asking.kept
    rows = result["counts"]["ok"] if "counts" in result else result.get("rows") or len(result["outputs"])
    assert rows == len(PROMPTS)
