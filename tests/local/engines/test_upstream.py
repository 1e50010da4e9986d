"""Text and vectors from another engine over HTTP."""

from __future__ import annotations

import json
import threading
import time
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
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, upstream, vector_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = json_schema({"category": ["billing", "login"]})


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as serving:
        yield serving


@pytest.fixture
def engine(server: Upstream) -> Iterator[UpstreamEngine]:
    with closing(UpstreamEngine(server.url)) as opened:
        yield opened


def asked(prompt: str = "one two three", **changes: Any) -> GenerationRequest:
    if "messages" not in changes:
        changes["prompt"] = prompt
    return GenerationRequest(**({"model_name": TEXT_MODEL, "max_tokens": 24} | changes))


def test_a_bare_prompt_goes_to_completions(engine: UpstreamEngine, server: Upstream) -> None:
    done = engine.generate(asked(temperature=0.5))
    assert (done.text, done.finish_reason) == ("three two one", "stop")
    assert (done.prompt_tokens, done.generated_tokens) == (3, 3)
    assert server.bodies == [
        {"model": TEXT_MODEL, "prompt": "one two three", "max_tokens": 24, "temperature": 0.5}
    ]


def test_a_conversation_goes_to_chat_completions(engine: UpstreamEngine, server: Upstream) -> None:
    messages = [{"role": "user", "content": "one two three"}]
    assert engine.generate(asked(messages=messages)).text == "three two one"
    assert server.bodies[0]["messages"] == messages


def test_a_text_that_was_cut_says_so(engine: UpstreamEngine) -> None:
    assert engine.generate(asked(max_tokens=2)).finish_reason == "length"


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_stream_hands_on_each_piece(engine: UpstreamEngine, *, is_chat: bool) -> None:
    pieces: list[str] = []
    request = asked(messages=[{"role": "user", "content": "one two three"}]) if is_chat else asked()
    done = engine.generate(request, pieces.append)
    assert pieces == ["three", " two", " one"]
    assert (done.text, done.finish_reason) == ("three two one", "stop")


def test_what_a_listener_raises_comes_out(engine: UpstreamEngine) -> None:
    def leaving(_: str) -> None:
        raise ConnectionAbortedError("gone")

    with pytest.raises(ConnectionAbortedError):
        engine.generate(asked(), leaving)


def test_a_schema_travels_as_response_format(engine: UpstreamEngine, server: Upstream) -> None:
    for request in (
        asked(json_schema=LABELS),
        asked(messages=[{"role": "user", "content": "x"}], json_schema=LABELS),
    ):
        pieces: list[str] = []
        done = engine.generate(request, pieces.append)
        assert json.loads(done.text)["category"] in {"billing", "login"}
        assert "".join(pieces) == done.text
    assert [body["response_format"]["json_schema"]["schema"] for body in server.bodies] == [LABELS, LABELS]
    assert ["prompt" in body for body in server.bodies] == [True, False]


@pytest.mark.parametrize("refused", [False, True])
def test_where_completions_cannot_be_bound_chat_is_used_from_then_on(
    engine: UpstreamEngine, server: Upstream, *, refused: bool
) -> None:
    """A server that ignores ``response_format`` there, and one that refuses it."""
    unbound = json.dumps({"choices": [{"text": "I think billing", "finish_reason": "stop"}]})
    server.fail(400 if refused else 200, unbound)
    for _ in range(2):
        done = engine.generate(asked(json_schema=LABELS))
        assert json.loads(done.text)["category"] in {"billing", "login"}
    assert ["prompt" in body for body in server.bodies] == [True, False, False]


def test_vectors_come_back_in_order_in_several_requests(engine: UpstreamEngine, server: Upstream) -> None:
    texts = [f"text {number}" for number in range(300)]
    assert engine.embed(texts, EMBEDDING_MODEL) == [vector_for(text) for text in texts]
    assert [len(body["input"]) for body in server.bodies] == [128, 128, 44]
    assert engine.embed([], EMBEDDING_MODEL) == []


def test_the_models_are_listed_and_remembered_for_a_while(engine: UpstreamEngine, server: Upstream) -> None:
    assert engine.models() == [TEXT_MODEL, EMBEDDING_MODEL]
    server.stop()
    assert engine.models() == [TEXT_MODEL, EMBEDDING_MODEL]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_passing_failure_is_tried_again(engine: UpstreamEngine, server: Upstream, status: int) -> None:
    server.fail(status, times=2)
    assert engine.generate(asked()).text == "three two one"
    assert len(server.bodies) == 3


def test_a_failure_that_stays_says_so_after_a_few_tries(engine: UpstreamEngine, server: Upstream) -> None:
    server.fail(503, times=20)
    with pytest.raises(EngineUnavailable, match="answered 503"):
        engine.generate(asked())
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
def test_what_the_server_refuses_is_told_apart(
    engine: UpstreamEngine, server: Upstream, status: int, body: str, error: type[Exception]
) -> None:
    server.fail(status, body, times=9)
    with pytest.raises(error):
        engine.generate(asked(prompt="a secret prompt"))


def test_a_message_never_holds_the_prompt_or_the_key(server: Upstream) -> None:
    server.fail(400, '{"error": {"message": "you said: a secret prompt"}}')
    with closing(UpstreamEngine(server.url, "hush")) as engine, pytest.raises(BadGenerationRequest) as caught:
        engine.generate(asked("a secret prompt"))
    assert "secret" not in str(caught.value)
    assert "hush" not in str(caught.value) + repr(engine)


def test_a_server_that_is_not_there_is_named() -> None:
    with (
        closing(UpstreamEngine("http://127.0.0.1:9")) as engine,
        pytest.raises(EngineUnavailable, match=r"http://127\.0\.0\.1:9/v1 does not answer.*Is it running"),
    ):
        engine.models()


def test_a_server_that_comes_back_in_time_is_waited_for(server: Upstream) -> None:
    """Connections that fail are tried again, not only answers."""
    server.open.clear()
    threading.Timer(0.3, server.open.set).start()
    with closing(UpstreamEngine(server.url, timeout=0.2)) as engine:
        assert engine.generate(asked()).text == "three two one"


def test_many_requests_run_at_once(server: Upstream, engine: UpstreamEngine) -> None:
    server.open.clear()
    threads = [threading.Thread(target=engine.generate, args=(asked(),)) for _ in range(12)]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + 20
    while server.most_at_once < 12 and time.monotonic() < limit:
        time.sleep(0.01)
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
def test_the_url_may_end_in_v1(url: str, base: str) -> None:
    with closing(UpstreamEngine(url)) as engine:
        assert engine._url == base


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL such as"):
        UpstreamEngine(url)
