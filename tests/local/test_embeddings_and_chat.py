"""Embeddings, chat, health and version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, text_for, vector_for

if TYPE_CHECKING:
    from tests.support.local_platform import LocalPlatform

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "one two three"}]


def test_a_single_text_returns_one_flat_vector(http: httpx.Client) -> None:
    response = http.post("/v1/embedding", json={"prompt": "a text", "model_name": EMBEDDING_MODEL}).json()
    assert response["embedding"] == pytest.approx(vector_for("a text"))


def test_vectors_come_in_the_order_of_their_texts(http: httpx.Client) -> None:
    texts = [f"text {number}" for number in range(50)]
    response = http.post("/v1/embedding", json={"prompt": texts}).json()
    assert response["embedding"] == [pytest.approx(vector_for(text)) for text in texts]


def test_the_embedding_model_has_a_default(http: httpx.Client) -> None:
    """The official client sends null if the user sets none."""
    response = http.post("/v1/embedding", json={"prompt": "a text", "model_name": None})
    assert response.json()["embedding"] == pytest.approx(vector_for("a text"))


def test_an_unknown_embedding_model_returns_594(http: httpx.Client) -> None:
    for path in ("/v1/embedding", "/v1/batch_embeddings"):
        assert http.post(path, json={"prompt": "x", "model_name": "no/model"}).status_code == 594


@pytest.mark.parametrize("prompt", [None, 3, [], ["fine", 3]])
def test_an_invalid_text_to_embed_returns_422(http: httpx.Client, prompt: object) -> None:
    for path in ("/v1/embedding", "/v1/batch_embeddings"):
        response = http.post(path, json={"prompt": prompt})
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"][:2] == ["body", "prompt"]


def test_chat_replies_in_openais_format(http: httpx.Client) -> None:
    response = http.post("/inf/chat/completions", json={"model": TEXT_MODEL, "messages": MESSAGES}).json()
    assert response["object"] == "chat.completion"
    assert response["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "three two one"}, "finish_reason": "stop"}
    ]
    usage = response["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_chat_follows_a_json_schema(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    body = {"model": TEXT_MODEL, "messages": MESSAGES, "response_format": response_format}
    content = http.post("/inf/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert type(json.loads(content)["n"]) is int


def test_chat_says_when_a_reply_was_truncated(http: httpx.Client, engine: Upstream) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        body = {"model": TEXT_MODEL, "messages": MESSAGES, limit: 2, "temperature": 0.5}
        choice = http.post("/inf/chat/completions", json=body).json()["choices"][0]
        assert choice["message"]["content"] == "three two"
        assert choice["finish_reason"] == "length"
        assert engine.bodies[-1]["temperature"] == 0.5


def test_parameters_and_unknown_fields_reach_the_engine(http: httpx.Client, engine: Upstream) -> None:
    sent = {"top_p": 0.5, "seed": 7, "stop": ["two"], "temperature": 0.5, "repetition_penalty": 1.1}
    body = {"model": TEXT_MODEL, "messages": MESSAGES, **sent, "cache": {"ttl": 5}}
    choice = http.post("/inf/chat/completions", json=body).json()["choices"][0]
    assert choice["message"]["content"] == "three"
    assert engine.bodies[-1] == {
        **sent,
        "model": TEXT_MODEL,
        "messages": MESSAGES,
        "max_tokens": engine.bodies[-1]["max_tokens"],
    }


def test_a_message_keeps_its_other_fields(http: httpx.Client, engine: Upstream) -> None:
    messages = [{"role": "user", "content": "one two", "name": "ann"}]
    http.post("/inf/chat/completions", json={"model": TEXT_MODEL, "messages": messages})
    assert engine.bodies[-1]["messages"] == messages


def test_chat_can_be_streamed(http: httpx.Client) -> None:
    body = {"model": TEXT_MODEL, "messages": MESSAGES, "stream": True}
    lines = http.post("/inf/chat/completions", json=body).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text_for("one two three")
    assert [choice["finish_reason"] for choice in choices][-1] == "stop"
    assert len(choices) > 3


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"messages": []}, 422),
        ({"messages": [{"role": "user"}]}, 422),
        ({"temperature": 3}, 422),
        ({"max_tokens": 0}, 422),
        ({"top_p": 0}, 422),
        ({"top_p": 1.1}, 422),
        ({"seed": "x"}, 422),
        ({"stop": []}, 422),
        ({"response_format": {"type": "xml"}}, 422),
        ({"response_format": {"type": "json_schema"}}, 400),
        ({"model": "no/model"}, 594),
        ({"model": "no/model", "stream": True}, 594),
    ],
)
def test_an_invalid_chat_request_is_rejected(
    http: httpx.Client, more: dict[str, object], status: int
) -> None:
    response = http.post("/inf/chat/completions", json={"model": TEXT_MODEL, "messages": MESSAGES, **more})
    assert response.status_code == status
    assert response.json()["detail"]


def test_an_error_before_the_first_chunk_sets_the_status_of_a_streamed_chat(
    http: httpx.Client, engine: Upstream
) -> None:
    engine.fail(400)
    response = http.post(
        "/inf/chat/completions", json={"model": TEXT_MODEL, "messages": MESSAGES, "stream": True}
    )
    assert response.status_code >= 400


def test_models_are_listed_in_openais_format(http: httpx.Client) -> None:
    response = http.get("/inf/models").json()
    assert response["object"] == "list"
    assert TEXT_MODEL in [model["id"] for model in response["data"]]


def test_the_version_lists_the_endpoints_without_the_control_endpoints(http: httpx.Client) -> None:
    response = http.get("/v1/version").json()
    assert response["server"]
    assert response["client"]
    paths = {endpoint["path"] for endpoint in response["api"]}
    assert {"/v1/completions", "/v2/completions", "/v1/batch_completions", "/inf/models"} <= paths
    assert not [path for path in paths if path.startswith("/_control")]


def test_health_needs_no_key(platform: LocalPlatform, http: httpx.Client) -> None:
    assert http.get(f"{platform.url}/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Basic YTpi", "a-key-for-tests", "Bearer", "Bearer \u00e9"]
)
def test_all_other_paths_need_the_key(platform: LocalPlatform, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode())]
    for path in ("/v1/version", "/v1/batch_completions/x/result", "/_control/stats", "/nowhere"):
        response = httpx.get(platform.url + path, headers=headers, trust_env=False)
        assert response.status_code == 401
        assert response.json()["detail"].startswith(
            f"The request carries {'no' if header is None else 'a wrong'} API key"
        )
        assert platform.key not in response.text
