"""What users do to a running job, and what a job does to its platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.jobs.runner import MAX_CRASHES
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, upstream

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.faults


def index_status(http: httpx.Client, job: str) -> dict[str, str]:
    found: dict[str, str] = http.post("/alpha/memory-rag/status", json={"job_id": job}).json()
    return found


def test_457_bytes_do_not_freeze_the_platform(http: httpx.Client) -> None:
    document = "<!-- a -->\n" * 40 + "Honest text"
    files = {"files": ("readme", document.encode())}
    job = http.post("/alpha/memory-rag/train", data={"model_name": TEXT_MODEL}, files=files).json()["job_id"]
    wait_until(lambda: index_status(http, job)["status"] == "COMPLETED")


@pytest.mark.long
def test_a_job_during_which_the_platform_dies_again_and_again_is_failed(data: Path) -> None:
    with upstream() as engine, local_platform(data, engine.url) as running:
        engine.open.clear()
        with running.client() as http:
            files = {"files": ("a.txt", b"Some text.")}
            form = {"model_name": TEXT_MODEL}
            job = http.post("/alpha/memory-rag/train", data=form, files=files).json()["job_id"]
        for crash in range(MAX_CRASHES):
            wait_until(lambda count=crash: len(engine.prompts) > count)
            running.kill()
            running.restart()
        with running.client() as http:
            status = index_status(http, job)
            assert status["status"] == "FAILED"
            assert f"died {MAX_CRASHES} times" in status["detail"]
            engine.open.set()
            assert http.post("/v1/embedding", json={"prompt": "a"}).status_code == 200


def test_deleting_a_dataset_while_it_is_learned_ends_in_an_answer(
    http: httpx.Client, platform: LocalPlatform, engine: Upstream
) -> None:
    engine.open.clear()
    body = {
        "name": f"deleted-{platform.pid}",
        "model_name": EMBEDDING_MODEL,
        "classes": {"a": "first", "b": "second"},
        "examples": {"a": ["one", "two"], "b": ["three", "four"]},
    }
    job = http.post("/v2/classifier/initialize", json=body).json()["job_id"]
    wait_until(lambda: engine.prompts)
    response = http.delete(f"/v2/classifier/{body['name']}/initial")
    assert response.status_code == 200
    engine.open.set()
    wait_until(lambda: http.get(f"/v2/classifier/{job}/status").json()["status"] in ("COMPLETED", "FAILED"))
    assert "unexpectedly" not in platform.log


def test_forgetting_all_jobs_while_they_run_leaves_the_slots_free(
    http: httpx.Client, platform: LocalPlatform, engine: Upstream
) -> None:
    for _ in range(3):
        engine.open.clear()
        for number in range(4):
            files = {"files": ("a.txt", f"Some text {number}.".encode())}
            form = {"model_name": TEXT_MODEL}
            http.post("/alpha/memory-rag/train", data=form, files=files).raise_for_status()
        wait_until(lambda: any(job["state"] == "running" for job in platform.control.jobs()))
        platform.control.reset()
        engine.open.set()
    files = {"files": ("a.txt", b"Some text.")}
    job = http.post("/alpha/memory-rag/train", data={"model_name": TEXT_MODEL}, files=files).json()["job_id"]
    wait_until(lambda: index_status(http, job)["status"] == "COMPLETED")


def test_an_index_that_is_damaged_costs_only_its_own_requests(data: Path) -> None:
    with upstream() as engine, local_platform(data, engine.url) as running:
        with running.client() as http:
            jobs = []
            for text in (b"First text.", b"Second text."):
                form = {"model_name": TEXT_MODEL}
                files = {"files": ("a.txt", text)}
                jobs.append(http.post("/alpha/memory-rag/train", data=form, files=files).json()["job_id"])
                wait_until(lambda: index_status(http, jobs[-1])["status"] == "COMPLETED")
        running.stop()
        (data / "memory_rag" / jobs[0] / "index.sqlite").write_bytes(b"damaged" * 1000)
        running.restart()
        with running.client() as http:
            body = {"prompt": "What?", "model_name": TEXT_MODEL}
            responses = [
                http.post("/alpha/memory-rag/completions", json={**body, "job_id": job}) for job in jobs
            ]
        assert [response.status_code for response in responses] == [500, 200]
        assert "damaged" in responses[0].json()["detail"]
