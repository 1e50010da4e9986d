"""Tests for the upstream engine, against an OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineUnavailable,
    GenerationRequest,
    ModelNotFound,
    PromptTooLong,
)
from airflow_provider_lamini.local.engines.upstream import UpstreamEngine
from tests.support.local_platform import wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, upstream, vector_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = json_schema({"category": ["billing", "login"]})


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as server:
        yield server


@pytest.fixture
def engine(server: Upstream) -> Iterator[UpstreamEngine]:
    with closing(UpstreamEngine(server.url)) as engine:
        yield engine


def make_request(prompt: str = "one two three", **changes: Any) -> GenerationRequest:
    if "messages" not in changes:
        changes["prompt"] = prompt
    return GenerationRequest(**({"model_name": TEXT_MODEL, "max_tokens": 24} | changes))


def test_a_bare_prompt_goes_to_completions(engine: UpstreamEngine, server: Upstream) -> None:
    done = engine.generate(make_request(temperature=0.5))
    assert (done.text, done.finish_reason) == ("three two one", "stop")
    assert (done.prompt_tokens, done.generated_tokens) == (3, 3)
    assert server.bodies == [
        {"model": TEXT_MODEL, "prompt": "one two three", "max_tokens": 24, "temperature": 0.5}
    ]


def test_a_conversation_goes_to_chat_completions(engine: UpstreamEngine, server: Upstream) -> None:
    messages = [{"role": "user", "content": "one two three"}]
    assert engine.generate(make_request(messages=messages)).text == "three two one"
    assert server.bodies[0]["messages"] == messages


def test_a_truncated_text_has_finish_reason_length(engine: UpstreamEngine) -> None:
    assert engine.generate(make_request(max_tokens=2)).finish_reason == "length"


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_stream_passes_on_each_piece(engine: UpstreamEngine, *, is_chat: bool) -> None:
    pieces: list[str] = []
    request = (
        make_request(messages=[{"role": "user", "content": "one two three"}]) if is_chat else make_request()
    )
    done = engine.generate(request, pieces.append)
    assert pieces == ["three", " two", " one"]
    assert (done.text, done.finish_reason) == ("three two one", "stop")


def test_an_exception_of_the_callback_propagates(engine: UpstreamEngine) -> None:
    def raise_error(_: str) -> None:
        raise ConnectionAbortedError("gone")

    with pytest.raises(ConnectionAbortedError):
        engine.generate(make_request(), raise_error)


def test_a_schema_is_sent_as_response_format(engine: UpstreamEngine, server: Upstream) -> None:
    for request in (
        make_request(json_schema=LABELS),
        make_request(messages=[{"role": "user", "content": "x"}], json_schema=LABELS),
    ):
        pieces: list[str] = []
        done = engine.generate(request, pieces.append)
        assert json.loads(done.text)["category"] in {"billing", "login"}
        assert "".join(pieces) == done.text
    assert [body["response_format"]["json_schema"]["schema"] for body in server.bodies] == [LABELS, LABELS]
    assert ["prompt" in body for body in server.bodies] == [True, False]


@pytest.mark.parametrize("rejected", [False, True])
def test_schemas_go_to_chat_once_completions_has_not_followed_one(
    engine: UpstreamEngine, server: Upstream, *, rejected: bool
) -> None:
    """Whether the server ignores ``response_format`` for completions or rejects it."""
    plain_text = json.dumps({"choices": [{"text": "I think billing", "finish_reason": "stop"}]})
    server.fail(400 if rejected else 200, plain_text)
    for _ in range(2):
        done = engine.generate(make_request(json_schema=LABELS))
        assert json.loads(done.text)["category"] in {"billing", "login"}
    assert ["prompt" in body for body in server.bodies] == [True, False, False]


def test_vectors_are_requested_in_batches_and_returned_in_order(
    engine: UpstreamEngine, server: Upstream
) -> None:
    texts = [f"text {number}" for number in range(300)]
    assert engine.embed(texts, EMBEDDING_MODEL) == [vector_for(text) for text in texts]
    assert [len(body["input"]) for body in server.bodies] == [128, 128, 44]
    assert engine.embed([], EMBEDDING_MODEL) == []


def test_the_list_of_models_is_cached(engine: UpstreamEngine, server: Upstream) -> None:
    assert engine.models() == [TEXT_MODEL, EMBEDDING_MODEL]
    server.stop()
    assert engine.models() == [TEXT_MODEL, EMBEDDING_MODEL]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_transient_failure_is_retried(engine: UpstreamEngine, server: Upstream, status: int) -> None:
    server.fail(status, times=2)
    assert engine.generate(make_request()).text == "three two one"
    assert len(server.bodies) == 3


def test_a_persistent_failure_raises_after_five_attempts(engine: UpstreamEngine, server: Upstream) -> None:
    server.fail(503, times=20)
    with pytest.raises(EngineUnavailable, match="answered 503"):
        engine.generate(make_request())
    assert len(server.bodies) == 5


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, "{}", EngineUnavailable),
        (404, '{"error": {"message": "The model `x` does not exist."}}', ModelNotFound),
        (404, "Not Found", EngineUnavailable),
        (400, '{"error": {"message": "This model\'s maximum context length is 4096"}}', PromptTooLong),
        (400, '{"error": {"message": "bad temperature"}}', BadGenerationRequest),
        (200, "<html>", EngineUnavailable),
        (200, '{"choices": []}', EngineUnavailable),
    ],
)
def test_each_kind_of_error_response_raises_its_own_exception(
    engine: UpstreamEngine, server: Upstream, status: int, body: str, error: type[Exception]
) -> None:
    server.fail(status, body, times=9)
    with pytest.raises(error):
        engine.generate(make_request(prompt="a secret prompt"))


def test_error_messages_never_contain_the_prompt_or_the_key(server: Upstream) -> None:
    server.fail(400, '{"error": {"message": "you said: a secret prompt"}}')
    with closing(UpstreamEngine(server.url, "hush")) as engine, pytest.raises(BadGenerationRequest) as caught:
        engine.generate(make_request("a secret prompt"))
    assert "secret" not in str(caught.value)
    assert "hush" not in str(caught.value) + repr(engine)


def test_the_error_names_a_server_that_cannot_be_reached() -> None:
    with (
        closing(UpstreamEngine("http://127.0.0.1:9")) as engine,
        pytest.raises(EngineUnavailable, match=r"http://127\.0\.0\.1:9/v1 did not answer.*Is it running"),
    ):
        engine.models()


def test_a_timeout_is_retried(server: Upstream) -> None:
    server.open.clear()
    threading.Timer(0.3, server.open.set).start()
    with closing(UpstreamEngine(server.url, timeout=0.2)) as engine:
        assert engine.generate(make_request()).text == "three two one"


def test_requests_run_concurrently(server: Upstream, engine: UpstreamEngine) -> None:
    server.open.clear()
    threads = [threading.Thread(target=engine.generate, args=(make_request(),)) for _ in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.most_at_once == 12)
    server.open.set()
    for thread in threads:
        thread.join(20)
    assert server.most_at_once == 12


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://host/prefix/v1", "https://host/prefix/v1"),
    ],
)
def test_the_url_may_include_v1(url: str, base: str) -> None:
    with closing(UpstreamEngine(url)) as engine:
        assert engine._url == base


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://"])
def test_an_invalid_url_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL such as"):
        UpstreamEngine(url)
