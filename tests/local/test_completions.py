"""Completions: /v1, /v2 and streaming under /v3."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.local_platform import wait_until
from tests.support.upstream import TEXT_MODEL, Upstream, text_for

if TYPE_CHECKING:
    import httpx

    from tests.support.local_platform import LocalPlatform

ALL_TYPES = {"topic": "str", "count": "int", "share": "float", "urgent": "bool", "tone": ["calm", "angry"]}


def ask(http: httpx.Client, path: str, prompt: object, **more: object) -> httpx.Response:
    return http.post(path, json={"model_name": TEXT_MODEL, "prompt": prompt, **more})


def test_v1_returns_the_output_of_a_prompt(http: httpx.Client) -> None:
    assert ask(http, "/v1/completions", "one two three").json() == {"output": "three two one"}


def test_v1_returns_outputs_in_the_order_of_the_prompts(http: httpx.Client) -> None:
    prompts = [f"number {number}" for number in range(30)]
    assert ask(http, "/v1/completions", prompts).json() == [
        {"output": text_for(prompt)} for prompt in prompts
    ]


def test_v1_returns_the_object_itself_with_an_output_type(http: httpx.Client) -> None:
    response = ask(http, "/v1/completions", "one two", output_type={"answer": "str"}).json()
    assert response == {"answer": "two one"}
    responses = ask(http, "/v1/completions", ["one two", "three"], output_type={"answer": "str"}).json()
    assert responses == [{"answer": "two one"}, {"answer": "three"}]


def test_v1_accepts_the_old_spelling_of_output_type(http: httpx.Client) -> None:
    assert ask(http, "/v1/completions", "one two", out_type={"answer": "str"}).json() == {"answer": "two one"}


def test_v2_returns_finish_reasons(http: httpx.Client) -> None:
    """They are scalars for a single prompt and lists for a list of prompts."""
    one = ask(http, "/v2/completions", "one two three", max_new_tokens=2).json()
    assert one == {"outputs": "three two", "finish_reason": "length"}
    two = ask(http, "/v2/completions", ["a b", "c d e"], max_new_tokens=2).json()
    assert two == {"outputs": ["b a", "e d"], "finish_reason": ["stop", "length"]}


def test_each_output_type_returns_values_of_that_type(http: httpx.Client) -> None:
    prompts = [f"ticket number {number}" for number in range(8)]
    response = ask(http, "/v2/completions", prompts, output_type=ALL_TYPES).json()
    assert response["finish_reason"] == ["stop"] * 8
    for output in response["outputs"]:
        assert list(output) == list(ALL_TYPES)
        kinds = [type(value) for value in output.values()]
        assert kinds == [str, int, float, bool, str]
        assert output["tone"] in ALL_TYPES["tone"]


def test_a_truncated_object_is_null_with_finish_reason_length(http: httpx.Client) -> None:
    response = ask(http, "/v2/completions", "a b c d e f", output_type=ALL_TYPES, max_new_tokens=3).json()
    assert response == {"outputs": None, "finish_reason": "length"}
    assert ask(http, "/v1/completions", "a b c d e f", output_type=ALL_TYPES, max_new_tokens=3).json() is None


def test_null_fields_count_as_missing(http: httpx.Client) -> None:
    """The official client sends all fields, even unset ones."""
    nulls = {"output_type": None, "max_tokens": None, "max_new_tokens": None, "cache_id": None}
    assert ask(http, "/v1/completions", "one two", **nulls).json() == {"output": "two one"}


def test_max_tokens_includes_the_prompt(http: httpx.Client, engine: Upstream) -> None:
    """A prompt counts one token per four characters, as in the platform's clients."""
    ask(http, "/v1/completions", "x" * 40, max_tokens=25)
    ask(http, "/v1/completions", "x" * 40, max_tokens=25, max_new_tokens=7)
    ask(http, "/v1/completions", "x" * 40)
    assert [body["max_tokens"] for body in engine.bodies] == [15, 7, 256]


def test_an_unknown_model_returns_594(http: httpx.Client) -> None:
    for path in ("/v1/completions", "/v2/completions", "/v3/streaming_completions", "/v1/batch_completions"):
        response = http.post(path, json={"model_name": "nobody/nothing", "prompt": ["x"]})
        assert response.status_code == 594, path
        assert "nobody/nothing" in response.json()["detail"]
        assert TEXT_MODEL in response.json()["detail"]


def test_a_loading_model_returns_513_until_it_is_loaded(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.loading(1.0, TEXT_MODEL)
    refused = ask(http, "/v2/completions", "x")
    assert refused.status_code == 513
    assert refused.json()["detail"].startswith("Downloading")
    wait_until(lambda: ask(http, "/v2/completions", "x").status_code == 200, timeout=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", None),
        ("prompt", []),
        ("prompt", ["fine", 7]),
        ("model_name", 3),
        ("model_name", None),
        ("max_new_tokens", 0),
        ("max_new_tokens", "many"),
        ("output_type", {"answer": "text"}),
        ("output_type", {"answer": ["a", 1]}),
        ("output_type", {}),
        ("output_type", "str"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v2/completions", "/v3/streaming_completions", "/v1/batch_completions"]
)
def test_an_invalid_field_returns_422_and_is_named(
    http: httpx.Client, path: str, field: str, value: Any
) -> None:
    body = {"model_name": TEXT_MODEL, "prompt": ["SECRET PROMPT"], field: value}
    response = http.post(path, json=body)
    assert response.status_code == 422
    for error in response.json()["detail"]:
        assert error["loc"][:2] == ["body", field]
        assert error["msg"]
    assert "SECRET" not in response.text


def test_a_body_that_is_not_json_returns_422_without_repeating_it(http: httpx.Client) -> None:
    response = http.post(
        "/v2/completions", content='{"prompt": "SECRET', headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert "SECRET" not in response.text


def test_an_error_names_the_prompt_that_caused_it(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.row_fault("bad apple")
    response = ask(http, "/v2/completions", ["fine", "bad apple", "fine"])
    assert response.status_code == 500
    assert response.json()["detail"].startswith("Prompt 1: ")
    assert "apple" not in response.text


def test_an_unknown_path_returns_404(http: httpx.Client) -> None:
    response = http.get("/v9/completions")
    assert response.status_code == 404
    assert "detail" in response.json()


def test_streaming_returns_the_text_so_far_until_every_finish_reason_is_set(
    http: httpx.Client, engine: Upstream
) -> None:
    engine.tokens_per_second = 8
    prompt = " ".join(f"w{number}" for number in range(12))
    job_id = ask(http, "/v3/streaming_completions", prompt).json()["id"]
    seen: list[str] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        response = http.get(f"/v3/streaming_completions/{job_id}/result").json()
        if response:
            seen.append(response["outputs"][0] or "")
            if all(response["finish_reason"]):
                break
        time.sleep(0.05)
    assert response == {"outputs": [text_for(prompt)], "finish_reason": ["stop"]}
    assert len(set(seen)) > 3
    assert all(text_for(prompt).startswith(text) for text in seen)
    assert seen == sorted(seen, key=len)


def test_streaming_accepts_several_prompts(http: httpx.Client) -> None:
    job_id = ask(http, "/v3/streaming_completions", ["a b", "c d"]).json()["id"]
    url = f"/v3/streaming_completions/{job_id}/result"
    wait_until(lambda: all(http.get(url).json().get("finish_reason", [None])))
    assert http.get(url).json()["outputs"] == ["b a", "d c"]


def test_an_unknown_streaming_job_returns_498(http: httpx.Client) -> None:
    response = http.get("/v3/streaming_completions/ffffffffffffffffffffffffffffffff/result")
    assert response.status_code == 498
    assert "ffffffffffffffffffffffffffffffff" in response.json()["detail"]


def test_prompts_and_keys_are_not_logged(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.row_fault("SECRET", times=None)
    ask(http, "/v2/completions", "SECRET PROMPT")
    ask(http, "/v1/batch_completions", ["SECRET PROMPT"])
    wait_until(lambda: not [job for job in platform.control.jobs() if job["ended"] is None])
    assert "SECRET" not in platform.log
    assert platform.key not in platform.log
