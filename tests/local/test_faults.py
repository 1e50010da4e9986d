"""Faults on demand, which the tests of clients rely on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.local_platform import wait_until
from tests.support.upstream import TEXT_MODEL, Upstream

if TYPE_CHECKING:
    from tests.support.local_platform import LocalPlatform

BATCH = {"model_name": TEXT_MODEL, "prompt": ["a b", "c d"]}


def test_a_fault_returns_its_status_headers_and_body_the_given_number_of_times(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    page = "<html><h1>502 Bad Gateway</h1></html>"
    platform.control.fault("/v1/version", status=502, times=2, headers={"Retry-After": "3"}, body=page)
    for _ in range(2):
        response = http.get("/v1/version")
        assert (response.status_code, response.text, response.headers["retry-after"]) == (502, page, "3")
        assert response.headers["content-type"].startswith("text/html")
    assert http.get("/v1/version").status_code == 200
    assert platform.control.faults()[0]["hits"] == 2


def test_a_fault_without_a_body_looks_like_a_platform_error(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.fault("/v1/version", status=429, headers={"Retry-After": "1"})
    response = http.get("/v1/version")
    assert response.status_code == 429
    assert list(response.json()) == ["detail"]


def test_a_fault_matches_the_whole_path_and_the_method(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.fault("/v1/batch_completions", method="POST", status=503, times=None)
    assert http.get("/v1/batch_completions/x/result").status_code == 498
    assert http.post("/v1/batch_completions", json=BATCH).status_code == 503
    platform.control.clear_faults()
    assert http.post("/v1/batch_completions", json=BATCH).status_code == 200


def test_a_fault_can_skip_the_first_requests(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.fault("/v1/.*", status=500, skip=2, times=1)
    assert [http.get("/v1/version").status_code for _ in range(4)] == [200, 200, 500, 200]


def test_a_connection_dropped_before_processing_starts_no_job(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.fault("/v1/batch_completions", drop=True)
    with pytest.raises(httpx.TransportError):
        http.post("/v1/batch_completions", json=BATCH)
    assert platform.control.jobs() == []


def test_a_connection_dropped_after_processing_loses_only_the_response(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.fault("/v1/batch_completions", drop=True, when="after")
    with pytest.raises(httpx.TransportError):
        http.post("/v1/batch_completions", json=BATCH)
    wait_until(lambda: [job["done"] for job in platform.control.jobs()] == [2])


def test_an_error_after_processing_hides_that_the_job_was_started(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.fault("/v1/batch_completions", status=504, when="after")
    assert http.post("/v1/batch_completions", json=BATCH).status_code == 504
    assert len(platform.control.jobs()) == 1


def test_a_response_can_be_truncated(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.fault("/v1/version", truncate=12)
    response = http.get("/v1/version")
    assert response.status_code == 200
    assert response.text == '{"server":"0'[:12]


def test_a_connection_can_drop_in_the_middle_of_a_response(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.fault("/v1/version", truncate=12, drop=True)
    with pytest.raises(httpx.TransportError):
        http.get("/v1/version")


def test_a_response_can_be_delayed(http: httpx.Client, platform: LocalPlatform) -> None:
    for when in ("before", "after"):
        platform.control.fault("/v1/version", delay=0.3, when=when)
        began = time.monotonic()
        assert http.get("/v1/version").status_code == 200
        assert time.monotonic() - began >= 0.3


def test_faults_do_not_apply_to_health_and_control(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.fault("/.*", status=500, times=None)
    assert http.get("/healthz").status_code == 200
    assert http.get("/_control/stats").status_code == 200
    assert http.get("/v1/version").status_code == 500


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"path": "("},
        {"path": "/x", "status": 99},
        {"path": "/x", "times": 0},
        {"path": "/x", "unknown": 1},
    ],
)
def test_an_invalid_fault_is_rejected(http: httpx.Client, fault: dict[str, object]) -> None:
    assert http.post("/_control/faults", json=fault).status_code == 422


def test_one_job_can_be_held_while_others_continue(http: httpx.Client, platform: LocalPlatform) -> None:
    held = http.post("/v1/batch_completions", json={**BATCH, "prompt": ["x"] * 300}).json()["id"]
    platform.control.hold(job_id=held)
    other = http.post("/v1/batch_completions", json=BATCH).json()["id"]
    wait_until(lambda: next(job for job in platform.control.jobs() if job["id"] == other)["ended"])
    platform.control.release()
    wait_until(lambda: all(job["ended"] for job in platform.control.jobs()))
    assert {job["state"] for job in platform.control.jobs()} == {"succeeded"}


def test_a_row_fails_the_given_number_of_times(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.row_fault("a b", times=2)
    statuses = [
        http.post("/v2/completions", json={"model_name": TEXT_MODEL, "prompt": "a b"}).status_code
        for _ in range(3)
    ]
    assert statuses == [500, 500, 200]


def test_a_reset_ends_running_jobs(http: httpx.Client, platform: LocalPlatform, engine: Upstream) -> None:
    failures = platform.log.count("failed unexpectedly")  # of earlier tests
    engine.open.clear()
    job_id = http.post("/v1/batch_completions", json=BATCH).json()["id"]
    wait_until(lambda: len(engine.prompts) == 2)
    platform.control.reset()
    engine.open.set()
    assert platform.control.jobs() == []
    assert http.get(f"/v1/batch_completions/{job_id}/result").status_code == 498
    assert http.post("/v1/completions", json={**BATCH, "prompt": "a b"}).json() == {"output": "b a"}
    assert platform.log.count("failed unexpectedly") <= failures


def test_stats_count_requests_jobs_and_rows(
    http: httpx.Client, platform: LocalPlatform, engine: Upstream
) -> None:
    job_id = http.post("/v1/batch_completions", json=BATCH).json()["id"]
    wait_until(lambda: platform.control.jobs()[0]["ended"])
    http.get(f"/v1/batch_completions/{job_id}/result")
    stats = platform.control.stats()
    assert stats["requests"]["POST /v1/batch_completions"] == 1
    assert stats["requests"]["GET /v1/batch_completions/{id}/result"] == 1
    assert stats["jobs"] == {"batch_completions": 1}
    assert stats["rows_computed"] == 2
    assert len(engine.prompts) == 2
    platform.control.reset()
    assert platform.control.jobs() == []
    assert platform.control.stats()["rows_computed"] == 0
