"""The real text model on this machine's CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import xllamacpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineUnavailable,
    Generation,
    GenerationRequest,
    ModelNotFound,
    PromptTooLong,
)
from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.engines.upstream import UpstreamEngine
from airflow_provider_lamini.local.models.catalogue import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.local.models.store import ModelStore

pytestmark = pytest.mark.models

EVERYTHING = {
    "category": ["billing", "log in", 'a "quoted"\nŁabel'],
    "grade": [1, 10, 100],
    "amount": "float",
    "count": "int",
    "urgent": "bool",
    "summary": "str",
}
COUNT = "Count up: 1, 2, 3, 4,"
TICKET = "My card was charged twice. I want 29.50 dollars back."


def asked(prompt: str = TICKET, **changes: Any) -> GenerationRequest:
    if "messages" not in changes:
        changes["prompt"] = prompt
    return GenerationRequest(**({"model_name": TEXT.name, "max_tokens": 24} | changes))


def assert_fits(generation: Generation) -> None:
    value = json.loads(generation.text)
    assert list(value) == list(EVERYTHING)
    assert value["category"] in EVERYTHING["category"]
    assert value["grade"] in EVERYTHING["grade"]
    assert isinstance(value["amount"], float | int)
    assert type(value["count"]) is int
    assert type(value["urgent"]) is bool
    assert isinstance(value["summary"], str)


def test_a_bare_prompt_is_continued(texts: LlamaTextEngine) -> None:
    done = texts.generate(asked("The capital of France is", max_tokens=3))
    assert done.text.startswith(" Paris")
    assert done.finish_reason == "length"
    assert (done.prompt_tokens, done.generated_tokens) == (5, 3)


def test_the_same_request_at_temperature_0_gives_the_same_text(texts: LlamaTextEngine) -> None:
    assert texts.generate(asked()) == texts.generate(asked())


def test_a_conversation_is_answered_and_ends_by_itself(texts: LlamaTextEngine) -> None:
    messages = [{"role": "user", "content": "What is the capital of France? Answer with one short sentence."}]
    done = texts.generate(asked(messages=messages, max_tokens=200))
    assert done.text
    assert "<|im_" not in done.text
    assert done.finish_reason == "stop"


def test_a_conversation_that_ends_with_the_assistant_is_continued(texts: LlamaTextEngine) -> None:
    messages = [
        {"role": "user", "content": "Capital of France?"},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    done = texts.generate(asked(messages=messages, max_tokens=4))
    assert done.text.startswith(" Paris")
    pieces: list[str] = []
    assert texts.generate(asked(messages=messages, max_tokens=4), pieces.append) == done
    assert "".join(pieces) == done.text


def test_the_pieces_of_a_stream_are_the_text(texts: LlamaTextEngine) -> None:
    pieces: list[str] = []
    done = texts.generate(asked(COUNT, max_tokens=12), pieces.append)
    assert "".join(pieces) == done.text
    assert len(pieces) > 5
    assert done == texts.generate(asked(COUNT, max_tokens=12))


@pytest.mark.parametrize("schema", [None, json_schema({"summary": "str"})])
def test_what_a_listener_raises_ends_the_generation(
    texts: LlamaTextEngine, schema: dict[str, Any] | None
) -> None:
    heard: list[str] = []

    def leaving(piece: str) -> None:
        heard.append(piece)
        raise ConnectionAbortedError("gone")

    with pytest.raises(ConnectionAbortedError, match="gone"):
        texts.generate(asked(COUNT, max_tokens=1500, json_schema=schema), leaving)
    assert len(heard) == 1


def test_every_kind_of_field_fits_its_type(texts: LlamaTextEngine) -> None:
    pieces: list[str] = []
    done = texts.generate(asked(json_schema=json_schema(EVERYTHING)), pieces.append)
    assert_fits(done)
    assert "".join(pieces) == done.text
    messages = [{"role": "user", "content": TICKET}]
    assert_fits(texts.generate(asked(messages=messages, json_schema=json_schema(EVERYTHING))))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(prompt=st.text(max_size=60), temperature=st.sampled_from([0.0, 1.0, 2.0]), limit=st.integers(1, 12))
def test_whatever_is_asked_the_object_is_whole_and_fits(
    texts: LlamaTextEngine, prompt: str, temperature: float, limit: int
) -> None:
    schema = json_schema(EVERYTHING)
    assert_fits(texts.generate(asked(prompt, temperature=temperature, max_tokens=limit, json_schema=schema)))


def test_a_text_that_does_not_end_is_cut_inside_its_object(texts: LlamaTextEngine) -> None:
    done = texts.generate(
        asked("Tell a long story of a fox as JSON.", max_tokens=8, json_schema=json_schema({"story": "str"}))
    )
    assert done.finish_reason == "length"
    assert json.loads(done.text)["story"]


@pytest.mark.parametrize("more", [{}, {"sure": "bool"}])
def test_a_value_is_chosen_by_the_prompt_and_not_by_its_place_in_the_list(
    texts: LlamaTextEngine, more: dict[str, Any]
) -> None:
    """Alone, where only the bare word is written, and inside an object."""
    for allowed in (["Paris", "Rome"], ["Rome", "Paris"]):
        schema = json_schema({"capital": list[str](allowed)} | more)
        for country, capital in (("France", "Paris"), ("Italy", "Rome")):
            prompt = f"The capital of {country} is {capital}. The capital of {country}:"
            done = texts.generate(asked(prompt, json_schema=schema))
            assert json.loads(done.text)["capital"] == capital


def test_a_word_that_begins_another_can_be_chosen_too(texts: LlamaTextEngine) -> None:
    schema = json_schema({"name": ["New", "New York", "New York City"]})
    for said in ("New", "New York", "New York City"):
        prompt = f"Name: Rome\nAgain: Rome\n\nName: Paris\nAgain: Paris\n\nName: {said}\nAgain:"
        assert json.loads(texts.generate(asked(prompt, json_schema=schema)).text) == {"name": said}
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": prompt}]
        done = texts.generate(asked(messages=messages, json_schema=schema))
        assert json.loads(done.text)["name"].startswith("New")


def test_another_schema_binds_too(texts: LlamaTextEngine) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "primes": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
        },
        "required": ["primes"],
    }
    done = texts.generate(asked("Three primes as JSON:", max_tokens=80, json_schema=schema))
    assert len(json.loads(done.text)["primes"]) == 3
    assert done.finish_reason == "stop"


def test_a_schema_that_cannot_be_followed_is_refused(texts: LlamaTextEngine) -> None:
    """llama.cpp alone would answer with any text."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}
    with pytest.raises(BadGenerationRequest, match="cannot follow"):
        texts.generate(asked(json_schema=schema))


@pytest.mark.parametrize("schema", [None, json_schema({"category": ["a", "b"]})])
def test_a_prompt_that_is_too_long_says_by_how_much(
    texts: LlamaTextEngine, schema: dict[str, Any] | None
) -> None:
    with pytest.raises(PromptTooLong, match="does not fit") as caught:
        texts.generate(asked("word " * 3000, json_schema=schema))
    assert caught.value.tokens >= 3000
    assert caught.value.limit == 2048


def test_messages_that_the_chat_template_cannot_take_are_refused(texts: LlamaTextEngine) -> None:
    with pytest.raises(BadGenerationRequest, match="refuses"):
        texts.generate(asked(messages=[{"role": "user"}]))


def test_a_model_that_is_not_served_is_named_with_those_that_are(texts: LlamaTextEngine) -> None:
    with pytest.raises(ModelNotFound, match=r"'nobody/nothing' is not served here; served: HuggingFaceTB"):
        texts.generate(asked(model_name="nobody/nothing"))


def test_a_file_of_ones_own_is_served_under_its_name(store: ModelStore) -> None:
    engine = LlamaTextEngine(
        {"me/mine": store.require(TEXT.name)}, {"mine": "me/mine"}, parallel=1, context=256
    )
    assert engine.models() == ["me/mine", "mine"]
    for name in engine.models():
        assert engine.generate(asked("Hello", model_name=name, max_tokens=2)).generated_tokens == 2
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.generate(asked(model_name="mine"))


def test_a_file_that_is_no_model_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF but no more")
    with pytest.raises(EngineUnavailable, match=r"cannot load .*x\.gguf"):
        LlamaTextEngine({"x": path})


def test_many_threads_get_their_own_answers(texts: LlamaTextEngine) -> None:
    prompts = [f"Count up: {number}, {number + 1}, {number + 2}," for number in range(3, 90, 6)]
    alone = [texts.generate(asked(prompt, max_tokens=6)).text for prompt in prompts]
    with ThreadPoolExecutor(texts.parallel) as pool:
        together = list(pool.map(lambda prompt: texts.generate(asked(prompt, max_tokens=6)).text, prompts))
    assert [text.split(",")[0] for text in together] == [text.split(",")[0] for text in alone]
    assert len(set(alone)) > len(alone) / 2


def test_requests_that_run_together_cost_less_than_one_after_another(texts: LlamaTextEngine) -> None:
    """Measured in this process's CPU time, which other processes do not change much."""
    prompts = [f"Count up: {number}, {number + 1}, {number + 2}," for number in range(10, 90, 10)]

    def cost(run: Callable[[], object]) -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    def one(prompt: str) -> Generation:
        return texts.generate(asked(prompt, max_tokens=16))

    def together() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, prompts))

    together()  # what is read once stays in the cache of each slot
    alone = cost(lambda: [one(prompt) for prompt in prompts])
    assert min(cost(together) for _ in range(2)) < 0.85 * alone


QUIET = """
import sys
from airflow_provider_lamini.local.engines.base import GenerationRequest, PromptTooLong
from airflow_provider_lamini.local.engines.opening import open_text_engine
from airflow_provider_lamini.local.models.store import ModelStore

engine = open_text_engine(ModelStore())
request = GenerationRequest(model_name=engine.models()[0], prompt="Hello", max_tokens=3)
engine.generate(request)
try:
    engine.generate(GenerationRequest(model_name=engine.models()[0], prompt="word " * 3000, max_tokens=3))
except PromptTooLong:
    sys.exit(7)
"""


def test_llama_cpp_prints_nothing(store: ModelStore) -> None:
    assert store.require(TEXT.name)
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.fixture(scope="module")
def llama_http(store: ModelStore) -> Iterator[tuple[str, str]]:
    """A real llama.cpp server over HTTP: its URL and key."""
    params = xllamacpp.CommonParams()
    params.model.path = str(store.require(TEXT.name))
    params.n_ctx, params.n_parallel, params.verbosity = 1024, 2, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = ["hush"]
    server = xllamacpp.Server(params)
    yield server.listening_address, "hush"
    del server


def test_an_upstream_of_llama_cpp_generates_streams_and_binds(llama_http: tuple[str, str]) -> None:
    schema = json_schema({"capital": ["Paris", "Rome"]})
    with closing(UpstreamEngine(*llama_http)) as engine:
        (name,) = engine.models()
        done = engine.generate(asked("The capital of France is", max_tokens=3, model_name=name))
        assert done.text.startswith(" Paris")
        pieces: list[str] = []
        done = engine.generate(asked(COUNT, max_tokens=12, model_name=name), pieces.append)
        assert "".join(pieces) == done.text
        assert len(pieces) > 5
        prompt = "What is the capital of France? Answer as JSON."
        bound = engine.generate(asked(prompt, max_tokens=40, model_name=name, json_schema=schema))
        assert json.loads(bound.text)["capital"] in {"Paris", "Rome"}
        with pytest.raises(PromptTooLong):
            engine.generate(asked("word " * 3000, model_name=name))


def test_an_upstream_that_refuses_the_key_is_not_asked_again(llama_http: tuple[str, str]) -> None:
    url, _ = llama_http
    began = time.monotonic()
    with (
        closing(UpstreamEngine(url, "wrong")) as engine,
        pytest.raises(EngineUnavailable, match=r"refuses the key \(401\)"),
    ):
        engine.generate(asked(model_name="x"))
    assert time.monotonic() - began < 2


def test_the_engine_listens_to_nobody_who_has_no_key(texts: LlamaTextEngine) -> None:
    server = texts._models._loaded[TEXT.name].server._server
    assert server is not None
    address = server.listening_address
    assert address.startswith("http://127.0.0.1:")
    body = {"prompt": "Hello", "max_tokens": 1}
    assert httpx.post(f"{address}/v1/completions", json=body).status_code == 401


def test_closing_waits_for_nobody_and_breaks_nothing(store: ModelStore) -> None:
    engine = LlamaTextEngine({"mine": store.require(TEXT.name)}, parallel=1, context=256)
    began = threading.Event()
    results: list[Generation] = []

    def run() -> None:
        results.append(
            engine.generate(asked("Hello", model_name="mine", max_tokens=30), lambda _: began.set())
        )

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(30)
    engine.close()
    thread.join(60)
    assert results[0].generated_tokens > 1
