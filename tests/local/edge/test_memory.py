"""Large and hostile bodies, with a platform that may not take much memory; a full disk; documents that are bombs."""

from __future__ import annotations

import resource
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.local.edge.test_requests import JSON, TEXT_ENDPOINTS, sentence
from tests.local.rag.test_reader import pdf_of_stream
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.upstream import TEXT_MODEL, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.faults

MIB = 1 << 20
ADDRESS_SPACE = 2200 * MIB
"""What a platform with an upstream engine gets. The stacks of its threads reserve 1500 MiB, but hardly use any."""
GROWTH = 350 * MIB
"""How much memory hostile bodies may take at the peak."""


@pytest.fixture(scope="module")
def small_memory(engine: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    running = LocalPlatform(tmp_path_factory.mktemp("memory"), engine.url)
    running.start(limits={resource.RLIMIT_AS: ADDRESS_SPACE})
    yield running
    running.stop()


BODIES: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: b'{"prompt": [' + b",".join([b"1"] * MIB) + b"]}",
    "numbers below the limit": lambda: b'{"prompt": [' + b",".join([b"1"] * 95_000) + b"]}",
    "fields": lambda: b"{" + b",".join(b'"%d":1' % number for number in range(95_000)) + b"}",
    "classes": lambda: (
        b'{"name": "a", "model_name": "b", "classes": {'
        + b",".join(b'"%d":1' % number for number in range(95_000))
        + b"}}"
    ),
    "empty lists": lambda: b'{"data": [' + b",".join([b"[]"] * MIB) + b"]}",
    "nested lists": lambda: b'{"data": ' + b"[" * MIB + b"]" * MIB + b"}",
    "too large": lambda: b'{"prompt": "' + b"a" * (65 * MIB) + b'"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_takes_little_memory_and_is_refused(small_memory: LocalPlatform, name: str) -> None:
    process = psutil.Process(small_memory.pid)
    body = BODIES[name]()
    with small_memory.client() as http:
        for path in ("/v1/embedding", "/v2/classifier/initialize", "/v1/train"):
            response = http.post(path, content=body, headers=JSON)
            assert response.status_code in (400, 413, 422, 501)  # 501: it cannot be tuned
            assert sentence(response)
        assert http.get("/healthz").status_code == 200
    assert process.memory_info().rss < GROWTH


def test_no_endpoint_takes_the_memory_of_a_large_list(small_memory: LocalPlatform) -> None:
    with small_memory.client() as http:
        for path in TEXT_ENDPOINTS:
            assert http.post(path, content=BODIES["numbers"](), headers=JSON).status_code in (400, 413, 422)
    assert psutil.Process(small_memory.pid).memory_info().rss < GROWTH


def test_a_row_of_an_upload_has_a_limit(small_memory: LocalPlatform) -> None:
    rows = (b'{"upload_base_path": "local", "data": [{"input": "', *[b"a" * MIB] * 200, b'"}]}')
    with small_memory.client() as http:
        response = http.post("/v1/local-data", content=iter(rows), headers=JSON)
        assert response.status_code in (413, 422)
        assert sentence(response)
    assert psutil.Process(small_memory.pid).memory_info().rss < GROWTH


def test_a_form_of_very_many_parts_is_refused(small_memory: LocalPlatform) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\na\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    with small_memory.client() as http:
        response = http.post("/alpha/memory-rag/train", content=part * 10_500 + b"--x--", headers=headers)
        assert response.status_code in (413, 422)
        endless = b'--x\r\nContent-Disposition: form-data; name="' + b"a" * (20 * MIB)
        response = http.post("/alpha/memory-rag/train", content=endless, headers=headers)
        assert response.status_code in (413, 422)


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "bomb.pdf": lambda: pdf_of_stream(
        zlib.compress(zlib.compress(b"(a) Tj " * (50 * MIB), 9), 9), "[/FlateDecode /FlateDecode]"
    ),
    "archive.txt": lambda: zlib.compress(bytes(10 * MIB)),
    "deep.html": lambda: b"<div>" * 200_000,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_job_with_a_hostile_document_fails_with_the_reason(small_memory: LocalPlatform, name: str) -> None:
    content = DOCUMENTS[name]()
    with small_memory.client() as http:
        response = http.post(
            "/alpha/memory-rag/train", data={"model_name": TEXT_MODEL}, files={"files": (name, content)}
        )
        job = response.json()["job_id"]

        def status() -> dict[str, str]:
            found: dict[str, str] = http.post("/alpha/memory-rag/status", json={"job_id": job}).json()
            return found

        wait_until(lambda: status()["status"] == "FAILED")
        assert f"Cannot read file '{name}'" in status()["detail"]


def test_a_full_disk_is_reported_and_nothing_is_lost(engine: Upstream, tmp_path: Path) -> None:
    running = LocalPlatform(tmp_path / "data", engine.url)
    running.start(
        limits={resource.RLIMIT_FSIZE: 3 * MIB}
    )  # writes beyond it fail, as those on a full disk do
    with running.client() as http:
        first = http.post("/v1/batch_embeddings", json={"prompt": ["a"]})
        assert first.status_code == 200
        large = {"model_name": TEXT_MODEL, "prompt": ["a" * 8 * MIB]}
        for path in ("/v1/batch_completions", "/v1/batch_embeddings", "/v3/streaming_completions"):
            response = http.post(path, json=large)
            assert response.status_code == 507
            assert "data folder" in sentence(response)
        rows = {"upload_base_path": "local", "data": [{"input": "a" * 4 * MIB}]}
        assert http.post("/v1/local-data", json=rows).status_code == 507
        files = {"files": ("a.txt", b"a" * 4 * MIB)}
        response = http.post("/alpha/memory-rag/train", data={"model_name": TEXT_MODEL}, files=files)
        assert response.status_code == 507
        assert http.get(f"/v1/batch_embeddings/{first.json()['id']}/result").status_code == 200
        assert http.get("/healthz").status_code == 200
    assert running.stop() == 0


def test_a_damaged_database_ends_the_command_with_one_sentence(engine: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with local_platform(data, engine.url):
        pass
    for file in data.glob("platform.sqlite*"):
        file.write_bytes(b"damaged" * 1000)
    broken = LocalPlatform(data, engine.url)
    with pytest.raises(Exception, match="did not become ready"):
        broken.start()
    assert "platform.sqlite is damaged" in broken.log
    assert "Traceback" not in broken.log
