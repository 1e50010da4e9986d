"""Tests for tuned models served beside their base model, with a llama of a few thousand weights."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gguf
import pytest

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import (
    Adapter,
    EngineError,
    EngineUnavailable,
    GenerationRequest,
    GenerationResult,
    ModelNotFound,
)
from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.engines.llama_server import LlamaServer
from airflow_provider_lamini.local.engines.loaded_models import LoadedModels
from airflow_provider_lamini.local.engines.upstream import UpstreamEngine
from airflow_provider_lamini.local.served_models import ServedModels
from tests.support.tiny_llama import tiny_adapter, tiny_llama
from tests.support.upstream import upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPTS = ["the cat", "the dog sat on the", "one two three", "x"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model and three adapters for it."""
    folder = tmp_path_factory.mktemp("tiny")
    adapters = {name: tiny_adapter(folder / f"{name}.gguf", seed) for seed, name in enumerate("abc")}
    return adapters | {"base": tiny_llama(folder / "base.gguf")}


@pytest.fixture
def texts(files: dict[str, Path]) -> Iterator[ServedModels]:
    """An engine that serves the base model."""
    with closing(ServedModels(open_engine(files))) as served:
        yield served


def open_engine(files: dict[str, Path]) -> LlamaTextEngine:
    return LlamaTextEngine({"base": files["base"]}, {"alias": "base"}, parallel=4, context=128, threads=1)


def make_request(model_name: str, prompt: str = PROMPTS[0], **changes: Any) -> GenerationRequest:
    return GenerationRequest(
        **({"model_name": model_name, "prompt": prompt, "max_tokens": 12, "temperature": 0} | changes)
    )


def generate_all(texts: ServedModels, model_name: str, **changes: Any) -> list[str]:
    return [texts.generate(make_request(model_name, prompt, **changes)).text for prompt in PROMPTS]


def generate_with_only(files: dict[str, Path], name: str) -> list[str]:
    """Generate with an adapter in an engine that has no other adapter."""
    with closing(ServedModels(open_engine(files))) as texts:
        texts.add_adapter(name, "base", files[name])
        return generate_all(texts, name)


def test_switching_between_adapters_does_not_mix_their_answers(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    """The prompts are the same each time, so an answer computed from another adapter's cache would show."""
    expected = {
        "base": generate_all(texts, "base"),
        "a": generate_with_only(files, "a"),
        "b": generate_with_only(files, "b"),
    }
    assert len({tuple(answers) for answers in expected.values()}) == 3
    texts.add_adapter("a", "base", files["a"])
    texts.add_adapter("b", "base", files["b"])
    assert texts.models() == ["base", "a", "b", "alias"]
    for name in ("base", "a", "b", "base", "b", "base", "a", "alias"):
        assert generate_all(texts, name) == expected["base" if name == "alias" else name], name
    for prompt in range(len(PROMPTS)):
        for name in ("a", "base", "b"):
            text = texts.generate(make_request(name, PROMPTS[prompt])).text
            assert text == expected[name][prompt], name


def test_concurrent_requests_for_different_adapters_each_get_the_right_answer(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    texts.add_adapters([Adapter(name=name, base="base", path=files[name]) for name in "ab"])
    names = ["base", "a", "b"]
    expected = {name: generate_all(texts, name) for name in names}
    tasks = [(name, number) for number in range(len(PROMPTS)) for name in names] * 5
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda task: texts.generate(make_request(task[0], PROMPTS[task[1]])).text, tasks)
        assert list(found) == [expected[name][number] for name, number in tasks]


def test_streams_choices_and_objects_use_the_adapter(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.add_adapters([Adapter(name=name, base="base", path=files[name]) for name in "abc"])
    names = ["base", "a", "b", "c"]
    pieces: list[str] = []
    streamed = {name: texts.generate(make_request(name), pieces.append).text for name in names}
    assert streamed == {name: texts.generate(make_request(name)).text for name in names}
    labels = json_schema({"label": [letter * 3 for letter in "abcdefgh"]})
    assert len({tuple(generate_all(texts, name, json_schema=labels)) for name in names}) > 1
    fields = json_schema({"sure": "bool", "count": ["x", "y", "z", "w"]})
    assert len({tuple(generate_all(texts, name, json_schema=fields)) for name in names}) > 1
    messages = [{"role": "user", "content": "hello"}]
    chats = {texts.generate(make_request(name, prompt=None, messages=messages)).text for name in names}
    assert len(chats) == len(names)


def test_a_tuned_model_writes_the_only_string_of_an_object_as_plain_text(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    """It continues the bare prompt, where a base model continues the JSON."""
    texts.add_adapter("a", "base", files["a"])
    schema = json_schema({"answer": "str"})
    for prompt in PROMPTS:
        bare, pieces = texts.generate(make_request("a", prompt)), list[str]()
        bound = texts.generate(make_request("a", prompt, json_schema=schema), pieces.append)
        assert json.loads(bound.text) == {"answer": bare.text.strip()}
        assert "".join(pieces) == bound.text
        assert bound.finish_reason == bare.finish_reason
        assert texts.generate(make_request("a", prompt + "  ")).text == bare.text.removeprefix(" ")


def test_adding_and_removing_adapters_does_not_disturb_running_requests(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    expected = generate_all(texts, "base", max_tokens=100)
    stop = threading.Event()

    def keep_generating() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            assert generate_all(texts, "base", max_tokens=100) == expected
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(keep_generating) for _ in range(3)]
        try:
            for _ in range(4):
                for name in "abc":
                    texts.add_adapter(name, "base", files[name])
                    assert len(generate_all(texts, name)) == len(PROMPTS)
                    texts.remove_adapter(name)
        finally:
            stop.set()
        assert all(future.result(60) for future in futures)


def test_a_tuned_model_answers_while_its_base_model_is_constantly_busy(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    texts.add_adapter("a", "base", files["a"])
    expected = generate_all(texts, "a")
    stop, answered = threading.Event(), threading.Semaphore(0)

    def keep_generating(length: int) -> None:
        while not stop.is_set():
            texts.generate(make_request("base", max_tokens=length))
            answered.release()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(keep_generating, length) for length in (61, 83, 100)]
        try:
            assert all(answered.acquire(timeout=60) for _ in range(30))
            assert pool.submit(generate_all, texts, "a").result(20) == expected
        finally:
            stop.set()
        for future in futures:
            future.result(60)


def test_a_replaced_model_is_freed_once_its_last_request_has_ended(files: dict[str, Path]) -> None:
    engine = open_engine(files)
    first = engine._models._loaded["base"].server
    started, proceed, done = threading.Event(), threading.Event(), list[GenerationResult]()

    def pause(_: str) -> None:
        started.set()
        assert proceed.wait(30)

    thread = threading.Thread(target=lambda: done.append(engine.generate(make_request("base"), pause)))
    thread.start()
    assert started.wait(30)
    assert engine.add_adapters([Adapter(name="a", base="base", path=files["a"])]) == {}
    assert first._server is not None
    proceed.set()
    thread.join(30)
    assert done[0].text == engine.generate(make_request("base")).text
    assert first._server is None
    engine.close()


def test_several_adapters_are_loaded_together(files: dict[str, Path]) -> None:
    loads: list[int] = []

    def load(path: Path, adapters: list[Path]) -> LlamaServer:
        loads.append(len(adapters))
        return LlamaServer(path, parallel=1, context=64, threads=1, adapters=adapters)

    with closing(LoadedModels({"base": files["base"]}, load)) as models:
        models.load("base")
        assert (
            models.add_adapters([Adapter(name=name, base="base", path=files[name]) for name in "abc"]) == {}
        )
        assert models.names() == ["base", "a", "b", "c"]
    assert loads == [0, 3]


def test_an_adapter_that_cannot_be_loaded_does_not_affect_the_others(
    texts: ServedModels, files: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(files["a"].read_bytes()[:-1000])
    expected = generate_all(texts, "base")
    failures = texts.add_adapters(
        [
            Adapter(name="a", base="base", path=files["a"]),
            Adapter(name="broken", base="base", path=broken),
            Adapter(name="missing", base="base", path=tmp_path / "missing.gguf"),
            Adapter(name="baseless", base="nobody", path=files["a"]),
            Adapter(name="b", base="base", path=files["b"]),
        ]
    )
    assert failures.keys() == {"broken", "missing", "baseless"}
    assert isinstance(failures["baseless"], ModelNotFound)
    assert texts.models() == ["base", "a", "b", "alias"]
    assert generate_all(texts, "base") == expected
    with pytest.raises(EngineUnavailable, match=r"cannot load .*broken\.gguf"):
        texts.add_adapter("broken", "base", broken)


def test_an_adapter_for_another_architecture_is_rejected(texts: ServedModels, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "qwen2")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EngineUnavailable, match="cannot load"):
        texts.add_adapter("other", "base", tmp_path / "other.gguf")
    assert texts.models() == ["base", "alias"]


def test_an_adapter_replaces_one_with_the_same_name(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.add_adapter("mine", "base", files["a"])
    before = generate_all(texts, "mine")
    texts.add_adapter("mine", "base", files["b"])
    assert generate_all(texts, "mine") != before
    assert texts.models() == ["base", "mine", "alias"]


def test_a_removed_adapter_is_no_longer_served(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.add_adapter("a", "base", files["a"])
    texts.remove_adapter("a")
    assert texts.models() == ["base", "alias"]
    with pytest.raises(ModelNotFound, match="'a' is not served"):
        texts.generate(make_request("a"))
    for name in ("a", "base"):
        with pytest.raises(ModelNotFound):
            texts.remove_adapter(name)


def test_only_a_base_model_has_a_file_to_train_on(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.add_adapter("a", "base", files["a"])
    assert texts.model_file("base") == texts.model_file("alias") == files["base"]
    with pytest.raises(EngineUnavailable, match="'a' is itself a tuned model"):
        texts.model_file("a")
    with pytest.raises(ModelNotFound):
        texts.model_file("nobody")


@pytest.mark.parametrize("name", ["base", "alias"])
def test_an_adapter_cannot_take_the_name_of_a_base_model_or_alias(
    texts: ServedModels, files: dict[str, Path], name: str
) -> None:
    with pytest.raises(EngineError, match="the name of another model"):
        texts.add_adapter(name, "base", files["a"])


def test_adapters_are_added_to_the_engine_that_serves_their_base_model(
    texts: ServedModels, files: dict[str, Path], tmp_path: Path
) -> None:
    other = LlamaTextEngine({"other": tiny_llama(tmp_path / "other.gguf", 9)}, parallel=1, context=64)
    texts.add(other)
    adapters = [
        Adapter(name="a", base="other", path=files["a"]),
        Adapter(name="b", base="base", path=files["b"]),
    ]
    assert texts.add_adapters(adapters) == {}
    assert other.models() == ["other", "a"]
    assert texts.generate(make_request("a")).text != texts.generate(make_request("b")).text
    with pytest.raises(EngineError, match="the name of another model"):
        texts.add_adapter("other", "base", files["a"])


def test_an_upstream_engine_does_not_support_adapters(files: dict[str, Path]) -> None:
    with upstream() as serving, closing(ServedModels(UpstreamEngine(serving.url))) as texts:
        (name, *_) = texts.models()
        with pytest.raises(EngineUnavailable, match="start it without --upstream"):
            texts.add_adapter("a", name, files["a"])
        with pytest.raises(EngineUnavailable, match="upstream engine"):
            texts.model_file(name)


def test_adding_an_adapter_to_a_closed_engine_fails(files: dict[str, Path]) -> None:
    texts = ServedModels(open_engine(files))
    texts.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        texts.add_adapter("a", "base", files["a"])
