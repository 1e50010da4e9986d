"""Tests for the llama.cpp text engine with the real model on this machine's CPU."""

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
    GenerationRequest,
    GenerationResult,
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

ALL_KINDS = {
    "category": ["billing", "log in", 'a "quoted"\nŁabel'],
    "grade": [1, 10, 100],
    "amount": "float",
    "count": "int",
    "urgent": "bool",
    "summary": "str",
}
COUNT = "Count up: 1, 2, 3, 4,"
TICKET = "My card was charged twice. I want 29.50 dollars back."


def make_request(prompt: str = TICKET, **changes: Any) -> GenerationRequest:
    if "messages" not in changes:
        changes["prompt"] = prompt
    return GenerationRequest(**({"model_name": TEXT.name, "max_tokens": 24} | changes))


def assert_matches_type(generation: GenerationResult) -> None:
    value = json.loads(generation.text)
    assert list(value) == list(ALL_KINDS)
    assert value["category"] in ALL_KINDS["category"]
    assert value["grade"] in ALL_KINDS["grade"]
    assert isinstance(value["amount"], float | int)
    assert type(value["count"]) is int
    assert type(value["urgent"]) is bool
    assert isinstance(value["summary"], str)


def test_the_model_continues_a_bare_prompt(texts: LlamaTextEngine) -> None:
    done = texts.generate(make_request("The capital of France is", max_tokens=3))
    assert done.text.startswith(" Paris")
    assert done.finish_reason == "length"
    assert (done.prompt_tokens, done.generated_tokens) == (5, 3)


def test_temperature_0_is_deterministic(texts: LlamaTextEngine) -> None:
    assert texts.generate(make_request()) == texts.generate(make_request())


def test_a_seed_repeats_a_sample_and_another_seed_does_not(texts: LlamaTextEngine) -> None:
    def sample(seed: int) -> GenerationResult:
        return texts.generate(make_request(temperature=1.5, options={"seed": seed}))

    assert sample(7) == sample(7)
    assert len({sample(seed).text for seed in range(4)}) > 1


def test_a_tiny_top_p_leaves_only_the_most_likely_token(texts: LlamaTextEngine) -> None:
    likely = texts.generate(make_request())
    assert texts.generate(make_request(temperature=1.5, options={"top_p": 1e-6})).text == likely.text


@pytest.mark.parametrize("stop", [" 6", [" 9", " 6"]])
def test_generation_ends_before_a_stop_text(texts: LlamaTextEngine, stop: str | list[str]) -> None:
    done = texts.generate(make_request(COUNT, options={"stop": stop}))
    assert done.text.rstrip(",") == " 5"
    assert done.finish_reason == "stop"


def test_options_that_are_not_for_clients_are_ignored(texts: LlamaTextEngine) -> None:
    options = {"lora": [{"id": 5, "scale": 1}], "grammar": 'root ::= "x"', "unknown": {}}
    assert texts.generate(make_request(options=options)) == texts.generate(make_request())


def test_nested_objects_and_lists_match_their_schema(texts: LlamaTextEngine) -> None:
    person = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "people": {"type": "array", "items": {"$ref": "#/$defs/Person"}, "minItems": 1, "maxItems": 2},
            "moods": {"type": "array", "items": {"enum": ["good", "bad"]}, "minItems": 2, "maxItems": 2},
        },
        "required": ["people", "moods"],
        "additionalProperties": False,
        "$defs": {"Person": person},
    }
    done = texts.generate(make_request("Ann is 31 and Bob is 7.", json_schema=schema, max_tokens=200))
    value = json.loads(done.text)
    assert [set(each) for each in value["people"]] == [{"name", "age"}] * len(value["people"])
    assert len(value["moods"]) == 2
    assert set(value["moods"]) <= {"good", "bad"}


def test_the_answer_to_a_conversation_ends_with_stop(texts: LlamaTextEngine) -> None:
    messages = [{"role": "user", "content": "What is the capital of France? Answer with one short sentence."}]
    done = texts.generate(make_request(messages=messages, max_tokens=200))
    assert done.text
    assert "<|im_" not in done.text
    assert done.finish_reason == "stop"


def test_the_model_continues_the_last_assistant_message(texts: LlamaTextEngine) -> None:
    messages = [
        {"role": "user", "content": "Capital of France?"},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    done = texts.generate(make_request(messages=messages, max_tokens=4))
    assert done.text.startswith(" Paris")
    pieces: list[str] = []
    assert texts.generate(make_request(messages=messages, max_tokens=4), pieces.append) == done
    assert "".join(pieces) == done.text


def test_the_pieces_of_a_stream_add_up_to_the_text(texts: LlamaTextEngine) -> None:
    pieces: list[str] = []
    done = texts.generate(make_request(COUNT, max_tokens=12), pieces.append)
    assert "".join(pieces) == done.text
    assert len(pieces) > 5
    assert done == texts.generate(make_request(COUNT, max_tokens=12))


@pytest.mark.parametrize("schema", [None, json_schema({"summary": "str"})])
def test_an_exception_of_the_callback_stops_generation(
    texts: LlamaTextEngine, schema: dict[str, Any] | None
) -> None:
    pieces: list[str] = []

    def raise_error(piece: str) -> None:
        pieces.append(piece)
        raise ConnectionAbortedError("gone")

    with pytest.raises(ConnectionAbortedError, match="gone"):
        texts.generate(make_request(COUNT, max_tokens=1500, json_schema=schema), raise_error)
    assert len(pieces) == 1


def test_every_kind_of_field_matches_its_type(texts: LlamaTextEngine) -> None:
    pieces: list[str] = []
    done = texts.generate(make_request(json_schema=json_schema(ALL_KINDS)), pieces.append)
    assert_matches_type(done)
    assert "".join(pieces) == done.text
    messages = [{"role": "user", "content": TICKET}]
    assert_matches_type(texts.generate(make_request(messages=messages, json_schema=json_schema(ALL_KINDS))))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(prompt=st.text(max_size=60), temperature=st.sampled_from([0.0, 1.0, 2.0]), limit=st.integers(1, 12))
def test_any_prompt_generates_a_complete_object_of_the_right_type(
    texts: LlamaTextEngine, prompt: str, temperature: float, limit: int
) -> None:
    schema = json_schema(ALL_KINDS)
    assert_matches_type(
        texts.generate(make_request(prompt, temperature=temperature, max_tokens=limit, json_schema=schema))
    )


def test_a_string_beyond_the_token_limit_is_truncated_inside_its_object(texts: LlamaTextEngine) -> None:
    done = texts.generate(
        make_request(
            "Tell a long story of a fox as JSON.", max_tokens=8, json_schema=json_schema({"story": "str"})
        )
    )
    assert done.finish_reason == "length"
    assert json.loads(done.text)["story"]


@pytest.mark.parametrize("other_fields", [{}, {"sure": "bool"}])
def test_a_choice_depends_on_the_prompt_and_not_on_the_order_of_the_choices(
    texts: LlamaTextEngine, other_fields: dict[str, Any]
) -> None:
    """As a single field, generated as a bare label, and in an object of several fields."""
    for allowed in (["Paris", "Rome"], ["Rome", "Paris"]):
        schema = json_schema({"capital": list[str](allowed)} | other_fields)
        for country, capital in (("France", "Paris"), ("Italy", "Rome")):
            prompt = f"The capital of {country} is {capital}. The capital of {country}:"
            done = texts.generate(make_request(prompt, json_schema=schema))
            assert json.loads(done.text)["capital"] == capital


def test_a_choice_may_be_a_prefix_of_another(texts: LlamaTextEngine) -> None:
    schema = json_schema({"name": ["New", "New York", "New York City"]})
    for choice in ("New", "New York", "New York City"):
        prompt = f"Name: Rome\nAgain: Rome\n\nName: Paris\nAgain: Paris\n\nName: {choice}\nAgain:"
        assert json.loads(texts.generate(make_request(prompt, json_schema=schema)).text) == {"name": choice}
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": prompt}]
        done = texts.generate(make_request(messages=messages, json_schema=schema))
        assert json.loads(done.text)["name"].startswith("New")


def test_a_schema_with_an_array_is_followed(texts: LlamaTextEngine) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "primes": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
        },
        "required": ["primes"],
    }
    done = texts.generate(make_request("Three primes as JSON:", max_tokens=80, json_schema=schema))
    assert len(json.loads(done.text)["primes"]) == 3
    assert done.finish_reason == "stop"


def test_an_unsupported_schema_is_rejected(texts: LlamaTextEngine) -> None:
    """llama.cpp alone would ignore the schema and generate any text."""
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}
    with pytest.raises(BadGenerationRequest, match="does not support"):
        texts.generate(make_request(json_schema=schema))


@pytest.mark.parametrize("schema", [None, json_schema({"category": ["a", "b"]})])
def test_the_error_for_a_long_prompt_has_its_length_and_the_limit(
    texts: LlamaTextEngine, schema: dict[str, Any] | None
) -> None:
    with pytest.raises(PromptTooLong, match="does not fit") as caught:
        texts.generate(make_request("word " * 3000, json_schema=schema))
    assert caught.value.tokens >= 3000
    assert caught.value.limit == 2048


def test_messages_that_the_chat_template_rejects_raise_an_error(texts: LlamaTextEngine) -> None:
    with pytest.raises(BadGenerationRequest, match="rejected"):
        texts.generate(make_request(messages=[{"role": "user"}]))


def test_the_error_for_an_unknown_model_lists_the_served_models(texts: LlamaTextEngine) -> None:
    with pytest.raises(
        ModelNotFound, match=r"'nobody/nothing' is not served; available models: HuggingFaceTB"
    ):
        texts.generate(make_request(model_name="nobody/nothing"))


def test_a_custom_file_is_served_under_its_name_and_alias(store: ModelStore) -> None:
    engine = LlamaTextEngine(
        {"me/mine": store.require(TEXT.name)}, {"mine": "me/mine"}, parallel=1, context=256
    )
    assert engine.models() == ["me/mine", "mine"]
    for name in engine.models():
        assert engine.generate(make_request("Hello", model_name=name, max_tokens=2)).generated_tokens == 2
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.generate(make_request(model_name="mine"))


def test_an_invalid_file_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF but no more")
    with pytest.raises(EngineUnavailable, match=r"cannot load .*x\.gguf"):
        LlamaTextEngine({"x": path})


def test_concurrent_requests_each_get_the_right_answer(texts: LlamaTextEngine) -> None:
    prompts = [f"Count up: {number}, {number + 1}, {number + 2}," for number in range(3, 90, 6)]
    expected = [texts.generate(make_request(prompt, max_tokens=6)).text for prompt in prompts]
    with ThreadPoolExecutor(texts.parallel) as pool:
        together = list(
            pool.map(lambda prompt: texts.generate(make_request(prompt, max_tokens=6)).text, prompts)
        )
    assert [text.split(",")[0] for text in together] == [text.split(",")[0] for text in expected]
    assert len(set(expected)) > len(expected) / 2


def test_concurrent_requests_cost_less_cpu_than_sequential_ones(texts: LlamaTextEngine) -> None:
    """Compares CPU time of this process, which other processes hardly influence."""
    prompts = [f"Count up: {number}, {number + 1}, {number + 2}," for number in range(10, 90, 10)]

    def cpu_time(run: Callable[[], object]) -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    def generate(prompt: str) -> GenerationResult:
        return texts.generate(make_request(prompt, max_tokens=16))

    def concurrent() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(generate, prompts))

    concurrent()  # fills the prompt cache of each slot
    sequential = cpu_time(lambda: [generate(prompt) for prompt in prompts])
    assert min(cpu_time(concurrent) for _ in range(2)) < 0.85 * sequential


SILENCE_CHECK = """
import sys
from airflow_provider_lamini.local.engines.base import GenerationRequest, PromptTooLong
from airflow_provider_lamini.local.engines.factory import open_text_engine
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
        [sys.executable, "-c", SILENCE_CHECK],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.fixture(scope="module")
def llama_http(store: ModelStore) -> Iterator[tuple[str, str]]:
    """URL and key of a real llama.cpp server over HTTP."""
    params = xllamacpp.CommonParams()
    params.model.path = str(store.require(TEXT.name))
    params.n_ctx, params.n_parallel, params.verbosity = 1024, 2, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = ["hush"]
    server = xllamacpp.Server(params)
    yield server.listening_address, "hush"
    del server


def test_a_llama_cpp_upstream_generates_streams_and_follows_schemas(llama_http: tuple[str, str]) -> None:
    schema = json_schema({"capital": ["Paris", "Rome"]})
    with closing(UpstreamEngine(*llama_http)) as engine:
        (name,) = engine.models()
        done = engine.generate(make_request("The capital of France is", max_tokens=3, model_name=name))
        assert done.text.startswith(" Paris")
        pieces: list[str] = []
        done = engine.generate(make_request(COUNT, max_tokens=12, model_name=name), pieces.append)
        assert "".join(pieces) == done.text
        assert len(pieces) > 5
        prompt = "What is the capital of France? Answer as JSON."
        bound = engine.generate(make_request(prompt, max_tokens=40, model_name=name, json_schema=schema))
        assert json.loads(bound.text)["capital"] in {"Paris", "Rome"}
        with pytest.raises(PromptTooLong):
            engine.generate(make_request("word " * 3000, model_name=name))


def test_a_rejected_key_is_not_retried(llama_http: tuple[str, str]) -> None:
    url, _ = llama_http
    start = time.monotonic()
    with (
        closing(UpstreamEngine(url, "wrong")) as engine,
        pytest.raises(EngineUnavailable, match=r"rejected the key \(401\)"),
    ):
        engine.generate(make_request(model_name="x"))
    assert time.monotonic() - start < 2


def test_the_engines_http_port_requires_the_key(texts: LlamaTextEngine) -> None:
    server = texts._models._loaded[TEXT.name].server._server
    assert server is not None
    address = server.listening_address
    assert address.startswith("http://127.0.0.1:")
    body = {"prompt": "Hello", "max_tokens": 1}
    assert httpx.post(f"{address}/v1/completions", json=body).status_code == 401


def test_closing_an_engine_does_not_interrupt_a_running_request(store: ModelStore) -> None:
    engine = LlamaTextEngine({"mine": store.require(TEXT.name)}, parallel=1, context=256)
    started = threading.Event()
    results: list[GenerationResult] = []

    def run() -> None:
        results.append(
            engine.generate(make_request("Hello", model_name="mine", max_tokens=30), lambda _: started.set())
        )

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(30)
    engine.close()
    thread.join(60)
    assert results[0].generated_tokens > 1
