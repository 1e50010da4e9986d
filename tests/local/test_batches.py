"""Batch completions and batch embeddings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.local_platform import wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, text_for, vector_for

if TYPE_CHECKING:
    from tests.support.local_platform import LocalPlatform

PROMPTS = [f"row {number}" for number in range(20)]


def start(http: httpx.Client, prompts: list[str], **more: object) -> str:
    response = http.post("/v1/batch_completions", json={"model_name": TEXT_MODEL, "prompt": prompts, **more})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def result(http: httpx.Client, job_id: str) -> dict[str, Any]:
    response = http.get(f"/v1/batch_completions/{job_id}/result")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def wait_for_results(http: httpx.Client, job_id: str) -> dict[str, Any]:
    wait_until(lambda: all(result(http, job_id).get("finish_reason", [None])))
    return result(http, job_id)


def test_results_of_a_batch_come_in_the_order_of_its_prompts(http: httpx.Client) -> None:
    response = wait_for_results(http, start(http, PROMPTS))
    assert response == {"outputs": [text_for(prompt) for prompt in PROMPTS], "finish_reason": ["stop"] * 20}


def test_a_batch_respects_its_output_type_and_token_limit(http: httpx.Client) -> None:
    typed = wait_for_results(http, start(http, PROMPTS, output_type={"topic": ["a", "b"], "n": "int"}))
    assert {output["topic"] for output in typed["outputs"]} <= {"a", "b"}
    assert all(type(output["n"]) is int for output in typed["outputs"])
    cut = wait_for_results(http, start(http, PROMPTS, max_new_tokens=1))
    assert cut == {"outputs": [prompt.split()[1] for prompt in PROMPTS], "finish_reason": ["length"] * 20}


def test_a_single_text_is_a_batch_of_one(http: httpx.Client) -> None:
    job_id = http.post("/v1/batch_completions", json={"model_name": TEXT_MODEL, "prompt": "a b"}).json()["id"]
    assert wait_for_results(http, job_id) == {"outputs": ["b a"], "finish_reason": ["stop"]}


def test_a_running_batch_shows_its_completed_rows(http: httpx.Client, platform: LocalPlatform) -> None:
    """Incomplete rows have neither output nor finish reason. Before the batch starts, the result is empty."""
    platform.control.hold("batch_completions")
    job_id = start(http, PROMPTS)
    assert result(http, job_id) == {}
    platform.control.release()
    platform.control.hold("batch_completions", after_rows=7)
    wait_until(lambda: platform.control.jobs()[-1]["done"] == 7)
    time.sleep(0.2)
    done = [text_for(prompt) for prompt in PROMPTS[:7]]
    assert result(http, job_id) == {
        "outputs": done + [None] * 13,
        "finish_reason": ["stop"] * 7 + [None] * 13,
    }
    platform.control.release()
    assert wait_for_results(http, job_id)["outputs"] == [text_for(prompt) for prompt in PROMPTS]


def test_a_running_batch_shows_rows_only_up_to_the_first_incomplete_one(
    http: httpx.Client, engine: Upstream
) -> None:
    """The official client counts the completed rows and reads that many from the start."""
    engine.tokens_per_second = 50
    prompts = [" ".join(["slow"] * (40 if number % 5 == 0 else 1)) for number in range(200)]
    job_id = start(http, prompts)
    seen: list[int] = []

    def is_done() -> bool:
        reasons = result(http, job_id).get("finish_reason", [None])
        seen.append(len([reason for reason in reasons if reason]))
        assert all(reasons[: seen[-1]])
        return seen[-1] == len(prompts)

    wait_until(is_done)
    assert len(set(seen)) > 3


def test_a_failing_row_does_not_fail_its_batch(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.row_fault("row 3")
    response = wait_for_results(http, start(http, PROMPTS[:6]))
    assert response["finish_reason"] == ["stop", "stop", "stop", "error", "stop", "stop"]
    assert response["outputs"][3] is None
    assert response["outputs"][4] == text_for("row 4")


def test_a_batch_waits_for_an_unavailable_engine(http: httpx.Client, engine: Upstream) -> None:
    engine.fail(503, times=10)
    response = wait_for_results(http, start(http, PROMPTS[:5]))
    assert response["outputs"] == [text_for(prompt) for prompt in PROMPTS[:5]]


def test_a_batch_that_is_ended_early_gives_the_reason_for_each_incomplete_row(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    ends = {"failed": "error", "timed out": "timeout", "cancelled": "cancelled"}
    for state, reason in ends.items():
        platform.control.hold("batch_completions", after_rows=2)
        job_id = start(http, PROMPTS[:4])
        wait_until(lambda: platform.control.jobs()[-1]["done"] == 2)
        assert platform.control.end(job_id, state, "because a test says so")
        assert not platform.control.end(job_id, "failed")
        assert result(http, job_id)["finish_reason"] == ["stop", "stop", reason, reason]
        job = platform.control.jobs()[-1]
        assert (job["state"], job["detail"]) == (state, "because a test says so")
        platform.control.release()


def test_a_batch_does_not_delay_interactive_requests(http: httpx.Client, engine: Upstream) -> None:
    engine.tokens_per_second = 5
    job_id = start(http, ["ten words " * 5] * 90)
    wait_until(lambda: engine.most_at_once >= 4)
    began = time.monotonic()
    response = http.post("/v1/completions", json={"model_name": TEXT_MODEL, "prompt": "quick question"})
    assert response.json() == {"output": "question quick"}
    assert time.monotonic() - began < 2
    assert None in result(http, job_id)["finish_reason"]
    engine.tokens_per_second = 100_000
    wait_for_results(http, job_id)


def test_work_stops_when_the_client_disconnects(http: httpx.Client, engine: Upstream) -> None:
    engine.tokens_per_second = 10
    body = {"model_name": TEXT_MODEL, "prompt": ["a b c"] * 400}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/completions", json=body, timeout=0.5)
    time.sleep(2)
    sent = len(engine.prompts)
    time.sleep(1)
    assert len(engine.prompts) == sent < 400


def test_two_batches_share_the_workers(http: httpx.Client, engine: Upstream, platform: LocalPlatform) -> None:
    engine.tokens_per_second = 50
    first = start(http, ["a b c d e"] * 300)
    second = start(http, ["a b c d e"] * 10)
    wait_for_results(http, second)
    assert None in result(http, first)["finish_reason"]
    platform.control.end(first, "cancelled")


def test_an_unknown_batch_returns_498(http: httpx.Client) -> None:
    for kind in ("batch_completions", "batch_embeddings"):
        response = http.get(f"/v1/{kind}/none-such/result")
        assert response.status_code == 498
        assert "none-such" in response.json()["detail"]


def test_a_batch_of_one_kind_cannot_be_read_as_the_other(http: httpx.Client) -> None:
    job_id = start(http, ["a b"])
    assert http.get(f"/v1/batch_embeddings/{job_id}/result").status_code == 498


def test_batch_embeddings_come_in_the_order_of_their_texts(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.hold("batch_embeddings")
    body = {"model_name": EMBEDDING_MODEL, "prompt": PROMPTS}
    job_id = http.post("/v1/batch_embeddings", json=body).json()["id"]
    url = f"/v1/batch_embeddings/{job_id}/result"
    assert http.get(url).json() == {}
    platform.control.release()
    wait_until(lambda: http.get(url).json())
    found = http.get(url).json()["embedding"]
    assert found == [pytest.approx(vector_for(text)) for text in PROMPTS]


def test_failed_batch_embeddings_return_500_and_name_the_rows(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.row_fault("row 7")
    job_id = http.post("/v1/batch_embeddings", json={"prompt": PROMPTS}).json()["id"]
    url = f"/v1/batch_embeddings/{job_id}/result"
    wait_until(lambda: http.get(url).status_code != 200)
    response = http.get(url)
    assert response.status_code == 500
    assert "Rows 0 to 15" in response.json()["detail"]
