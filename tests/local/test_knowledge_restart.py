"""Index builds and trainings continue after the platform was killed, and repeat no finished work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.upstream import TEXT_MODEL, Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.faults

RAG = "/alpha/memory-rag"
CLASSIFIER = "/v2/classifier"
TEXTS = [f"Text number {number}." for number in range(60)]
CLASSES = {"odd": "numbers that are odd", "even": "numbers that are even"}
EXAMPLES = {"odd": TEXTS[1:40:2], "even": TEXTS[0:40:2]}


@pytest.fixture
def own_engine() -> Iterator[Upstream]:
    with upstream() as serving:
        yield serving


@pytest.fixture
def own_platform(own_engine: Upstream, data: Path) -> Iterator[LocalPlatform]:
    with local_platform(data, own_engine.url) as running:
        yield running


def build(http: httpx.Client) -> str:
    parts = [("files", (f"{number}.txt", text)) for number, text in enumerate(TEXTS)]
    response = http.post(f"{RAG}/train", data={"model_name": TEXT_MODEL}, files=parts)
    return str(response.raise_for_status().json()["job_id"])


def status(http: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.post(f"{RAG}/status", json={"job_id": job_id}).raise_for_status().json()
    return found


def kill_in_the_middle(platform: LocalPlatform, engine: Upstream, kind: str, done: int) -> list[str]:
    """Kill the platform when a job is held after this much work.

    :return: the texts that the engine received until then
    """
    wait_until(lambda: len(engine.prompts) >= done)
    time.sleep(0.2)
    platform.kill()
    sent = list(engine.prompts)
    engine.prompts.clear()
    platform.restart()
    assert [job["state"] for job in platform.control.jobs(kind)][-1:] in (
        ["queued"],
        ["running"],
        ["succeeded"],
    )
    return sent


def test_an_interrupted_build_continues_with_the_missing_vectors(
    own_platform: LocalPlatform, own_engine: Upstream
) -> None:
    own_platform.control.hold("memory_rag", after_rows=32)
    with own_platform.client() as http:
        job_id = build(http)
        sent_before = kill_in_the_middle(own_platform, own_engine, "memory_rag", 32)
        wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
        assert sorted(sent_before + own_engine.prompts) == sorted(TEXTS)
        assert len(sent_before) == 32
        lines = http.get(f"{RAG}/training_log/{job_id}").json()
        assert sum("Read " in line for line in lines) == len(TEXTS)
        assert not list((own_platform.data / "memory_rag" / job_id).glob("files/*"))


def test_a_build_that_had_not_started_runs_after_a_restart(
    own_platform: LocalPlatform, own_engine: Upstream
) -> None:
    own_platform.control.hold("memory_rag")
    with own_platform.client() as http:
        job_id = build(http)
        assert status(http, job_id)["status"] == "CREATED"
        kill_in_the_middle(own_platform, own_engine, "memory_rag", 0)
        wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
        assert sorted(own_engine.prompts) == sorted(TEXTS)


def test_an_index_and_added_texts_outlive_restarts_and_the_job_record(
    own_platform: LocalPlatform, own_engine: Upstream
) -> None:
    with own_platform.client() as http:
        job_id = build(http)
        wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
        http.post(f"{RAG}/add-index", json={"job_id": job_id, "prompt": "Added later."}).raise_for_status()
        own_platform.control.reset()
        assert own_platform.control.jobs() == []
        own_platform.kill()
        own_platform.restart()
        assert status(http, job_id) == {"job_id": job_id, "status": "COMPLETED"}
        own_engine.prompts.clear()
        body = {"job_id": job_id, "prompt": "Added later.", "rag_query_size": 1}
        http.post(f"{RAG}/completions", json=body).raise_for_status()
        assert own_engine.prompts[-1].endswith("Added later.\n\nAdded later.")


def test_leftovers_of_aborted_uploads_and_failed_builds_are_deleted(
    own_platform: LocalPlatform, own_engine: Upstream
) -> None:
    with own_platform.client() as http:
        failed = str(
            http.post(
                f"{RAG}/train", data={"model_name": TEXT_MODEL}, files=[("files", ("a.pdf", b"broken"))]
            ).json()["job_id"]
        )
        wait_until(lambda: status(http, failed)["status"] == "FAILED")
        good = build(http)
        wait_until(lambda: status(http, good)["status"] == "COMPLETED")
        (own_platform.data / "memory_rag" / "incoming-broken" / "files").mkdir(parents=True)
        (own_platform.data / "temporary" / "broken").mkdir()
        own_platform.kill()
        own_platform.restart()
        assert [folder.name for folder in (own_platform.data / "memory_rag").iterdir()] == [good]
        assert list((own_platform.data / "temporary").iterdir()) == []
        assert "Cannot read file" in status(http, failed)["detail"]
        assert len(own_engine.prompts) == len(TEXTS)


def test_an_interrupted_training_continues_with_the_missing_vectors(
    own_platform: LocalPlatform, own_engine: Upstream
) -> None:
    own_platform.control.hold("classifier", after_rows=20)
    with own_platform.client() as http:
        body = {"name": "numbers", "model_name": TEXT_MODEL, "classes": CLASSES, "examples": EXAMPLES}
        job_id = http.post(f"{CLASSIFIER}/initialize", json=body).raise_for_status().json()["job_id"]
        sent_before = kill_in_the_middle(own_platform, own_engine, "classifier", 20)
        wait_until(lambda: http.get(f"{CLASSIFIER}/{job_id}/status").json()["status"] == "COMPLETED")
        expected = [f"{name}: {described}" for name, described in CLASSES.items()] + TEXTS[:40]
        assert sorted(sent_before + own_engine.prompts) == sorted(expected)
        assert len(sent_before) == 20
        # Another training computes no vector again.
        own_engine.prompts.clear()
        again = http.post(f"{CLASSIFIER}/train", json={"name": "numbers"}).json()["job_id"]
        wait_until(lambda: http.get(f"{CLASSIFIER}/{again}/status").json()["status"] == "COMPLETED")
        assert own_engine.prompts == []


def test_a_classifier_outlives_restarts_and_its_job_record(own_platform: LocalPlatform) -> None:
    with own_platform.client() as http:
        body = {"name": "numbers", "model_name": TEXT_MODEL, "classes": CLASSES, "examples": EXAMPLES}
        job_id = http.post(f"{CLASSIFIER}/initialize", json=body).raise_for_status().json()["job_id"]
        wait_until(lambda: http.get(f"{CLASSIFIER}/{job_id}/status").json()["status"] == "COMPLETED")
        before = http.get(f"{CLASSIFIER}/{job_id}/status").json()
        url = f"{CLASSIFIER}/{before['model_id']}/classify"
        classified = http.post(url, json={"prompt": TEXTS}).raise_for_status().json()
        own_platform.control.reset()
        own_platform.kill()
        own_platform.restart()
        assert http.get(f"{CLASSIFIER}/{job_id}/status").json() == before
        assert http.post(url, json={"prompt": TEXTS}).json() == classified
