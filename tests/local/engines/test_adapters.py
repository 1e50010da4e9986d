"""Tuned models next to their base model, with a llama of a few thousand weights."""

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
    Generation,
    GenerationRequest,
    ModelNotFound,
)
from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.engines.llama_server import LlamaServer
from airflow_provider_lamini.local.engines.loaded import LoadedModels
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
    """A base model and adapters for it."""
    folder = tmp_path_factory.mktemp("tiny")
    made = {name: tiny_adapter(folder / f"{name}.gguf", seed) for seed, name in enumerate("abc")}
    return made | {"base": tiny_llama(folder / "base.gguf")}


@pytest.fixture
def texts(files: dict[str, Path]) -> Iterator[ServedModels]:
    """The base model, served."""
    with closing(ServedModels(engine(files))) as served:
        yield served


def engine(files: dict[str, Path]) -> LlamaTextEngine:
    return LlamaTextEngine({"base": files["base"]}, {"alias": "base"}, parallel=4, context=128, threads=1)


def asked(model_name: str, prompt: str = PROMPTS[0], **changes: Any) -> GenerationRequest:
    return GenerationRequest(
        **({"model_name": model_name, "prompt": prompt, "max_tokens": 12, "temperature": 0} | changes)
    )


def answers(texts: ServedModels, model_name: str, **changes: Any) -> list[str]:
    return [texts.generate(asked(model_name, prompt, **changes)).text for prompt in PROMPTS]


def alone(files: dict[str, Path], name: str) -> list[str]:
    """What an adapter answers in an engine that has no other."""
    with closing(ServedModels(engine(files))) as texts:
        texts.adapt(name, "base", files[name])
        return answers(texts, name)


def test_switching_between_none_and_two_adapters_mixes_nothing(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    """The same prompts follow each other, so that whatever is kept of one would serve the next."""
    expected = {"base": answers(texts, "base"), "a": alone(files, "a"), "b": alone(files, "b")}
    assert len({tuple(one) for one in expected.values()}) == 3
    texts.adapt("a", "base", files["a"])
    texts.adapt("b", "base", files["b"])
    assert texts.models() == ["base", "a", "b", "alias"]
    for name in ("base", "a", "b", "base", "b", "base", "a", "alias"):
        assert answers(texts, name) == expected["base" if name == "alias" else name], name
    for prompt in range(len(PROMPTS)):
        for name in ("a", "base", "b"):
            text = texts.generate(asked(name, PROMPTS[prompt])).text
            assert text == expected[name][prompt], name


def test_requests_of_several_adapters_run_together_and_get_their_own_answers(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    texts.adapt_all([Adapter(name=name, base="base", path=files[name]) for name in "ab"])
    names = ["base", "a", "b"]
    expected = {name: answers(texts, name) for name in names}
    tasks = [(name, number) for number in range(len(PROMPTS)) for name in names] * 5
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda task: texts.generate(asked(task[0], PROMPTS[task[1]])).text, tasks)
        assert list(got) == [expected[name][number] for name, number in tasks]


def test_a_stream_a_choice_and_an_object_use_the_adapter_too(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    texts.adapt_all([Adapter(name=name, base="base", path=files[name]) for name in "abc"])
    names = ["base", "a", "b", "c"]
    pieces: list[str] = []
    streamed = {name: texts.generate(asked(name), pieces.append).text for name in names}
    assert streamed == {name: texts.generate(asked(name)).text for name in names}
    labels = json_schema({"label": [letter * 3 for letter in "abcdefgh"]})
    assert len({tuple(answers(texts, name, json_schema=labels)) for name in names}) > 1
    fields = json_schema({"sure": "bool", "count": ["x", "y", "z", "w"]})
    assert len({tuple(answers(texts, name, json_schema=fields)) for name in names}) > 1
    messages = [{"role": "user", "content": "hello"}]
    chats = {texts.generate(asked(name, prompt=None, messages=messages)).text for name in names}
    assert len(chats) == len(names)


def test_a_tuned_model_writes_an_only_text_as_it_has_learned_to(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    """After the bare prompt, where the base model continues the JSON."""
    texts.adapt("a", "base", files["a"])
    schema = json_schema({"answer": "str"})
    for prompt in PROMPTS:
        bare, pieces = texts.generate(asked("a", prompt)), list[str]()
        bound = texts.generate(asked("a", prompt, json_schema=schema), pieces.append)
        assert json.loads(bound.text) == {"answer": bare.text.strip()}
        assert "".join(pieces) == bound.text
        assert bound.finish_reason == bare.finish_reason
        assert texts.generate(asked("a", prompt + "  ")).text == bare.text.removeprefix(" ")


def test_what_runs_while_adapters_come_and_go_ends_well(texts: ServedModels, files: dict[str, Path]) -> None:
    expected = answers(texts, "base", max_tokens=100)
    stop = threading.Event()

    def ask() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            assert answers(texts, "base", max_tokens=100) == expected
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for _ in range(4):
                for name in "abc":
                    texts.adapt(name, "base", files[name])
                    assert len(answers(texts, name)) == len(PROMPTS)
                    texts.forget(name)
        finally:
            stop.set()
        assert all(one.result(60) for one in asking)


def test_a_tuned_model_answers_while_its_base_model_is_always_asked(
    texts: ServedModels, files: dict[str, Path]
) -> None:
    texts.adapt("a", "base", files["a"])
    expected = answers(texts, "a")
    stop, answered = threading.Event(), threading.Semaphore(0)

    def ask(length: int) -> None:
        while not stop.is_set():
            texts.generate(asked("base", max_tokens=length))
            answered.release()

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, length) for length in (61, 83, 100)]
        try:
            assert all(answered.acquire(timeout=60) for _ in range(30))
            assert pool.submit(answers, texts, "a").result(20) == expected
        finally:
            stop.set()
        for one in asking:
            one.result(60)


def test_a_model_is_freed_once_the_last_request_that_uses_it_has_ended(files: dict[str, Path]) -> None:
    models = engine(files)
    first = models._models._loaded["base"].server
    heard, go_on, done = threading.Event(), threading.Event(), list[Generation]()

    def listen(_: str) -> None:
        heard.set()
        assert go_on.wait(30)

    thread = threading.Thread(target=lambda: done.append(models.generate(asked("base"), listen)))
    thread.start()
    assert heard.wait(30)
    assert models.adapt_all([Adapter(name="a", base="base", path=files["a"])]) == {}
    assert first._server is not None
    go_on.set()
    thread.join(30)
    assert done[0].text == models.generate(asked("base")).text
    assert first._server is None
    models.close()


def test_many_adapters_are_loaded_in_one_go(files: dict[str, Path]) -> None:
    loads: list[int] = []

    def load(path: Path, adapters: list[Path]) -> LlamaServer:
        loads.append(len(adapters))
        return LlamaServer(path, parallel=1, context=64, threads=1, adapters=adapters)

    with closing(LoadedModels({"base": files["base"]}, load)) as models:
        models.load("base")
        assert models.adapt([Adapter(name=name, base="base", path=files[name]) for name in "abc"]) == {}
        assert models.names() == ["base", "a", "b", "c"]
    assert loads == [0, 3]


def test_an_adapter_that_cannot_be_loaded_takes_nothing_down(
    texts: ServedModels, files: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(files["a"].read_bytes()[:-1000])
    expected = answers(texts, "base")
    failures = texts.adapt_all(
        [
            Adapter(name="a", base="base", path=files["a"]),
            Adapter(name="broken", base="base", path=broken),
            Adapter(name="gone", base="base", path=tmp_path / "gone.gguf"),
            Adapter(name="lost", base="nobody", path=files["a"]),
            Adapter(name="b", base="base", path=files["b"]),
        ]
    )
    assert failures.keys() == {"broken", "gone", "lost"}
    assert isinstance(failures["lost"], ModelNotFound)
    assert texts.models() == ["base", "a", "b", "alias"]
    assert answers(texts, "base") == expected
    with pytest.raises(EngineUnavailable, match=r"cannot load .*broken\.gguf"):
        texts.adapt("broken", "base", broken)


def test_an_adapter_of_another_model_is_refused(texts: ServedModels, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "qwen2")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EngineUnavailable, match="cannot load"):
        texts.adapt("other", "base", tmp_path / "other.gguf")
    assert texts.models() == ["base", "alias"]


def test_a_tuned_model_of_the_same_name_is_replaced(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.adapt("mine", "base", files["a"])
    before = answers(texts, "mine")
    texts.adapt("mine", "base", files["b"])
    assert answers(texts, "mine") != before
    assert texts.models() == ["base", "mine", "alias"]


def test_what_was_forgotten_is_not_served(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.adapt("a", "base", files["a"])
    texts.forget("a")
    assert texts.models() == ["base", "alias"]
    with pytest.raises(ModelNotFound, match="'a' is not served"):
        texts.generate(asked("a"))
    for name in ("a", "base"):
        with pytest.raises(ModelNotFound):
            texts.forget(name)


def test_the_file_to_train_on_is_the_base_models(texts: ServedModels, files: dict[str, Path]) -> None:
    texts.adapt("a", "base", files["a"])
    assert texts.weights("base") == texts.weights("alias") == files["base"]
    with pytest.raises(EngineUnavailable, match="'a' is itself a tuned model"):
        texts.weights("a")
    with pytest.raises(ModelNotFound):
        texts.weights("nobody")


@pytest.mark.parametrize("name", ["base", "alias"])
def test_an_adapter_cannot_take_the_name_of_another_model(
    texts: ServedModels, files: dict[str, Path], name: str
) -> None:
    with pytest.raises(EngineError, match="the name of another model"):
        texts.adapt(name, "base", files["a"])


def test_adapters_go_to_the_engine_that_serves_their_model(
    texts: ServedModels, files: dict[str, Path], tmp_path: Path
) -> None:
    other = LlamaTextEngine({"other": tiny_llama(tmp_path / "other.gguf", 9)}, parallel=1, context=64)
    texts.add(other)
    adapters = [
        Adapter(name="a", base="other", path=files["a"]),
        Adapter(name="b", base="base", path=files["b"]),
    ]
    assert texts.adapt_all(adapters) == {}
    assert other.models() == ["other", "a"]
    assert texts.generate(asked("a")).text != texts.generate(asked("b")).text
    with pytest.raises(EngineError, match="the name of another model"):
        texts.adapt("other", "base", files["a"])


def test_an_upstream_engine_takes_no_adapters(files: dict[str, Path]) -> None:
    with upstream() as serving, closing(ServedModels(UpstreamEngine(serving.url))) as texts:
        (name, *_) = texts.models()
        with pytest.raises(EngineUnavailable, match="start it without --upstream"):
            texts.adapt("a", name, files["a"])
        with pytest.raises(EngineUnavailable, match="upstream engine"):
            texts.weights(name)


def test_a_closed_engine_takes_no_adapters(files: dict[str, Path]) -> None:
    texts = ServedModels(engine(files))
    texts.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        texts.adapt("a", "base", files["a"])
