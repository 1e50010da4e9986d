"""The platform's responses match the schema of the API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.contract import STRUCTURE, check
from tests.support.local_platform import wait_until
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    import httpx

TYPED = {"answer": "str", "tone": ["calm", "angry"]}
CHAT = {"model": TEXT_MODEL, "messages": [{"role": "user", "content": "a b"}]}
TEXTS = {"model_name": TEXT_MODEL, "prompt": ["a b", "c d"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", TEXTS),
        ("/v1/completions", {**TEXTS, "prompt": "a b", "output_type": TYPED}),
        ("/v2/completions", TEXTS),
        ("/v2/completions", {**TEXTS, "output_type": TYPED, "max_new_tokens": 1}),
        ("/v1/embedding", {"prompt": "a"}),
        ("/v1/embedding", {"prompt": ["a", "b"]}),
        ("/v1alpha/downloaded_models", {"hf_model_name": TEXT_MODEL}),
        ("/v1alpha/downloaded_models/", {"hf_model_name": TEXT_MODEL}),
        ("/inf/chat/completions", CHAT),
        ("/v2/completions", {}),
        ("/v3/streaming_completions", {}),
        ("/v1/batch_completions", {"prompt": 3}),
        ("/v1/embedding", {}),
        ("/v1alpha/downloaded_models/", {"model_type": "video"}),
    ],
)
def test_responses_match_the_schema(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    check(http.post(path, json=body), path)


@pytest.mark.parametrize(
    "path", ["/v1/version", "/v1alpha/downloaded_models", "/v1alpha/downloaded_models/", "/inf/models"]
)
def test_get_responses_match_the_schema(http: httpx.Client, path: str) -> None:
    check(http.get(path), path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/batch_completions", {**TEXTS, "output_type": TYPED}),
        ("/v1/batch_embeddings", {"prompt": ["a", "b"]}),
        ("/v3/streaming_completions", {**TEXTS, "prompt": "a b"}),
    ],
)
def test_job_responses_match_the_schema_from_start_to_end(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    job_id = check(http.post(path, json=body), path)["id"]
    result = f"{path}/{{id}}/result"

    def ended() -> bool:
        response = check(http.get(f"{path}/{job_id}/result"), result)
        return bool(response) and all(response.get("finish_reason", [True]))

    wait_until(ended)


def test_every_documented_and_served_operation_has_the_same_path(http: httpx.Client) -> None:
    """The names of path variables do not matter."""

    def plain(path: str) -> str:
        return re.sub(r"{\w+}", "{}", path)

    described = {plain(path) for path in STRUCTURE["paths"]}
    served = {plain(endpoint["path"]) for endpoint in http.get("/v1/version").json()["api"]}
    assert served <= described
