"""The platform with its real models. These tests are slow."""

from __future__ import annotations

import math
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.local.models.store import ModelStore
from tests.support.local_platform import LocalPlatform, local_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.models

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TYPES = {
    "city": "str",
    "people": "int",
    "share": "float",
    "large": "bool",
    "size": ["small", "big"],
    "rank": [1, 2],
}
PROMPT = "The capital of {} is"


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    for name in (MODEL, "sentence-transformers/all-MiniLM-L6-v2"):
        ModelStore().pull(name)
    with local_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture
def platform(shared_platform: LocalPlatform) -> Iterator[LocalPlatform]:
    yield shared_platform
    shared_platform.control.reset()


def ask(http: httpx.Client, prompt: Any, **more: Any) -> Any:
    body = {"model_name": MODEL, "prompt": prompt, **more}
    return http.post("/v2/completions", json=body).raise_for_status().json()


def test_completions_come_from_the_model(http: httpx.Client) -> None:
    response = ask(
        http, [PROMPT.format(country) for country in ("France", "Spain", "Italy")], max_new_tokens=10
    )
    for city, text in zip(("Paris", "Madrid", "Rome"), response["outputs"], strict=True):
        assert city in text


def test_objects_match_their_output_type(http: httpx.Client) -> None:
    prompts = [PROMPT.format(country) for country in ("France", "Spain", "Italy", "Peru")]
    response = ask(http, prompts, output_type=TYPES, max_new_tokens=150)
    whole = [output for output in response["outputs"] if output is not None]
    assert len(whole) >= 3
    for output in whole:
        assert [type(value) for value in output.values()] == [str, int, float, bool, str, int]
        assert list(output) == list(TYPES)
        assert output["size"] in TYPES["size"]
        assert output["rank"] in TYPES["rank"]


def test_an_object_cut_by_the_token_limit_has_finish_reason_length(http: httpx.Client) -> None:
    """Long texts are cut; short ones are complete."""
    response = ask(http, "Once upon a time,", output_type=TYPES, max_new_tokens=3)
    assert response["finish_reason"] == "length"
    assert list(response["outputs"]) == list(TYPES)


def test_a_prompt_beyond_the_context_fails_without_affecting_others(http: httpx.Client) -> None:
    body = {"model_name": MODEL, "prompt": ["Hello", "word " * 60_000, "Hello"], "max_new_tokens": 3}
    job_id = http.post("/v1/batch_completions", json=body).json()["id"]
    url = f"/v1/batch_completions/{job_id}/result"
    wait_until(lambda: all(http.get(url).json().get("finish_reason", [None])))
    response = http.get(url).json()
    assert response["outputs"][1] is None
    assert response["outputs"][0] == response["outputs"][2] != ""
    single = http.post("/v2/completions", json={**body, "prompt": "word " * 60_000})
    assert single.status_code == 400
    assert "word" not in single.json()["detail"]


def test_chat_uses_the_models_chat_template(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "What is 2+2?"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 20}
    response = http.post("/inf/chat/completions", json=body).json()
    assert "4" in response["choices"][0]["message"]["content"]
    assert response["usage"]["completion_tokens"] > 0


def test_vectors_reflect_similarity(http: httpx.Client) -> None:
    texts = ["How do I reset my password?", "I forgot my password.", "The invoice has a wrong amount.", ""]
    found = http.post("/v1/embedding", json={"prompt": texts}).json()["embedding"]
    assert [len(vector) for vector in found] == [384] * 4
    for vector in found:
        assert math.isclose(math.fsum(number * number for number in vector), 1, abs_tol=1e-3)

    def alike(first: list[float], second: list[float]) -> float:
        return math.fsum(one * other for one, other in zip(first, second, strict=True))

    assert alike(found[0], found[1]) > alike(found[0], found[2]) + 0.2


def test_a_short_request_does_not_wait_for_a_long_one(http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        story = pool.submit(ask, http, "Once upon a time, in a land far away,", max_new_tokens=200)
        time.sleep(0.2)  # so that it arrives first
        ask(http, PROMPT.format("France"), max_new_tokens=3)
        assert not story.done()
    assert len(story.result()["outputs"].split()) > 50


def test_a_killed_platform_finishes_its_batch_after_a_restart(platform: LocalPlatform) -> None:
    prompts = [PROMPT.format(f"country {number}") for number in range(24)]
    with platform.client() as http:
        body = {"model_name": MODEL, "prompt": prompts, "max_new_tokens": 12}
        job_id = http.post("/v1/batch_completions", json=body).json()["id"]
    wait_until(lambda: platform.control.jobs()[-1]["done"] >= 6)
    platform.kill()
    platform.restart()
    wait_until(lambda: platform.control.jobs()[-1]["ended"])
    job = platform.control.jobs()[-1]
    assert (job["state"], job["done"], job["runs"]) == ("succeeded", 24, 2)
    assert job["computed_here"] <= 18
    with platform.client() as http:
        response = http.get(f"/v1/batch_completions/{job_id}/result").json()
    assert len(response["outputs"]) == 24
    assert all(isinstance(output, str) for output in response["outputs"])


class SlowHub(ThreadingHTTPServer):
    """A hub with one file. The first request gets half of it and then waits.

    :ivar content: the file
    :ivar requests: number of requests so far
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHubHandler)
        self.content = content
        self.requests = 0
        self.ended = threading.Event()


class _SlowHubHandler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    server: SlowHub

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        hub = self.server
        hub.requests += 1
        first = hub.requests == 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(hub.content)))
        self.end_headers()
        self.wfile.write(hub.content[: len(hub.content) // 2] if first else hub.content)
        if first:
            hub.ended.wait(60)


@pytest.fixture
def slow_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowHub]:
    """A slow hub, set as ``HF_ENDPOINT``."""
    hub = SlowHub(ModelStore().require(MODEL).read_bytes())
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
    yield hub
    hub.ended.set()
    hub.shutdown()
    hub.server_close()


def test_a_download_continues_after_its_platform_was_killed(
    tmp_path: Path, data: Path, slow_hub: SlowHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ModelStore().root, tmp_path / "cache")
    monkeypatch.setenv("LAMINI_LOCAL_CACHE", str(tmp_path / "cache"))
    url, body = "/v1alpha/downloaded_models/", {"hf_model_name": "someone/else/model.gguf"}
    with local_platform(data) as running:
        with running.client() as http:
            http.post(url, json=body).raise_for_status()
            wait_until(lambda: slow_hub.requests == 1)
        running.kill()
        running.restart()
        with running.client() as http:
            wait_until(lambda: http.post(url, json=body).json()["status"] == "available")
            ask = {
                "model_name": "someone/else/model.gguf",
                "prompt": PROMPT.format("France"),
                "max_new_tokens": 8,
            }
            assert "Paris" in http.post("/v2/completions", json=ask).json()["outputs"]
        assert len(running.control.jobs("model_download")) == 1
    assert slow_hub.requests == 2
    assert [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith((".part", ".tmp"))] == []


def test_a_custom_model_is_downloaded_and_served(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses its own cache, so that no file is left behind."""
    shutil.copytree(ModelStore().root, tmp_path / "cache")
    monkeypatch.setenv("LAMINI_LOCAL_CACHE", str(tmp_path / "cache"))
    own = tmp_path / "own.gguf"
    shutil.copyfile(ModelStore().require(MODEL), own)
    with local_platform(data) as running, running.client() as http:
        body = {"hf_model_name": str(own)}
        first = http.post("/v1alpha/downloaded_models/", json=body).raise_for_status().json()
        assert first["status"] in ("requested", "downloading")
        ask_own = {"model_name": str(own), "prompt": PROMPT.format("France"), "max_new_tokens": 8}
        early = http.post("/v2/completions", json=ask_own)
        assert early.status_code in (200, 513)
        url = "/v1alpha/downloaded_models/"
        wait_until(lambda: http.post(url, json=body).json()["status"] == "available")
        assert "Paris" in http.post("/v2/completions", json=ask_own).json()["outputs"]
        assert len(running.control.jobs("model_download")) == 1
        (tmp_path / "broken.gguf").write_bytes(b"no model")
        problems = set()
        for name in ("nothing.gguf", "broken.gguf"):
            unusable = {"hf_model_name": str(tmp_path / name)}
            assert http.post(url, json=unusable).json()["status"] in ("requested", "downloading")
            wait_until(lambda: running.control.jobs("model_download")[-1]["ended"])
            problems.add(running.control.jobs("model_download")[-1]["detail"])
        assert len(problems) == 1
        assert str(tmp_path) not in problems.pop()
        running.kill()
        running.restart()
        assert str(own) in running.models


@pytest.mark.skipif(find_spec("torch") is not None, reason="this environment can tune")
def test_a_platform_that_cannot_tune_says_so_before_anyone_uploads_a_dataset(shared_platform):
    wait_until(lambda: "pip install 'airflow-provider-lamini[train]'" in shared_platform.log)
