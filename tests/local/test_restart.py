"""Restarts: a killed platform returns every row once and computes no stored row twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.local.engines.upstream import PARALLEL
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.upstream import TEXT_MODEL, Upstream, text_for, upstream, vector_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.faults

PROMPTS = [f"row {number} of the batch" for number in range(150)]


@pytest.fixture
def slow_engine() -> Iterator[Upstream]:
    with upstream(tokens_per_second=10) as serving:
        yield serving


@pytest.fixture
def own_platform(slow_engine: Upstream, data: Path) -> Iterator[LocalPlatform]:
    with local_platform(data, slow_engine.url) as running:
        yield running


def start(platform: LocalPlatform, path: str, body: dict[str, Any]) -> str:
    with platform.client() as http:
        return str(http.post(path, json=body).raise_for_status().json()["id"])


def result(platform: LocalPlatform, path: str, job_id: str) -> dict[str, Any]:
    with platform.client() as http:
        found: dict[str, Any] = http.get(f"{path}/{job_id}/result").raise_for_status().json()
        return found


def test_an_interrupted_batch_continues_with_the_incomplete_rows(
    own_platform: LocalPlatform, slow_engine: Upstream
) -> None:
    path = "/v1/batch_completions"
    job_id = start(own_platform, path, {"model_name": TEXT_MODEL, "prompt": PROMPTS})
    wait_until(lambda: own_platform.control.jobs()[0]["done"] >= 15)
    own_platform.kill()
    time.sleep(1)  # let requests in flight reach the engine and end
    sent_before = len(slow_engine.prompts)
    slow_engine.tokens_per_second = 100_000
    own_platform.restart()
    wait_until(lambda: own_platform.control.jobs()[0]["ended"] is not None)

    response = result(own_platform, path, job_id)
    assert response == {"outputs": [text_for(prompt) for prompt in PROMPTS], "finish_reason": ["stop"] * 150}
    job = own_platform.control.jobs()[0]
    assert (job["state"], job["total"], job["done"], job["runs"]) == ("succeeded", 150, 150, 2)
    stored_before = 150 - job["computed_here"]
    assert stored_before >= 15
    # Only rows that a worker was computing when the platform died may be sent twice.
    sent_again = len(slow_engine.prompts) - len(PROMPTS)
    assert sent_again == sent_before - stored_before
    assert sent_again <= PARALLEL


def test_completed_rows_are_available_right_after_a_restart(own_platform: LocalPlatform) -> None:
    path = "/v1/batch_completions"
    job_id = start(own_platform, path, {"model_name": TEXT_MODEL, "prompt": PROMPTS})
    wait_until(lambda: result(own_platform, path, job_id).get("outputs", [None] * 9)[8] is not None)
    before = [output for output in result(own_platform, path, job_id)["outputs"] if output is not None]
    own_platform.kill()
    own_platform.restart()
    after = result(own_platform, path, job_id)["outputs"]
    assert after[: len(before)] == before


def test_every_kind_of_job_is_resumed(own_platform: LocalPlatform, slow_engine: Upstream) -> None:
    slow_engine.open.clear()
    streaming = start(own_platform, "/v3/streaming_completions", {"model_name": TEXT_MODEL, "prompt": "a b"})
    vectors = start(own_platform, "/v1/batch_embeddings", {"prompt": PROMPTS})
    own_platform.kill()
    slow_engine.open.set()
    own_platform.restart()
    wait_until(lambda: all(job["ended"] for job in own_platform.control.jobs()))
    assert result(own_platform, "/v3/streaming_completions", streaming)["outputs"] == ["b a"]
    found = result(own_platform, "/v1/batch_embeddings", vectors)["embedding"]
    assert found == [pytest.approx(vector_for(text)) for text in PROMPTS]


def test_an_ended_job_is_not_resumed(own_platform: LocalPlatform) -> None:
    own_platform.control.hold()
    path = "/v1/batch_completions"
    job_id = start(own_platform, path, {"model_name": TEXT_MODEL, "prompt": PROMPTS[:3]})
    own_platform.control.end(job_id, "timed out")
    own_platform.kill()
    own_platform.restart()
    assert result(own_platform, path, job_id)["finish_reason"] == ["timeout"] * 3
    assert own_platform.control.jobs()[0]["runs"] == 0


def test_a_graceful_stop_leaves_the_batch_for_the_next_start(
    own_platform: LocalPlatform, slow_engine: Upstream
) -> None:
    path = "/v1/batch_completions"
    job_id = start(own_platform, path, {"model_name": TEXT_MODEL, "prompt": PROMPTS})
    wait_until(lambda: own_platform.control.jobs()[0]["done"] >= 5)
    began = time.monotonic()
    assert own_platform.stop() == 0
    assert time.monotonic() - began < 2
    slow_engine.tokens_per_second = 100_000
    own_platform.restart()
    wait_until(lambda: all(result(own_platform, path, job_id)["finish_reason"]))
    assert result(own_platform, path, job_id)["outputs"] == [text_for(prompt) for prompt in PROMPTS]
