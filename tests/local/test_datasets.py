"""Datasets that are uploaded to the platform itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.contract import check
from tests.support.local_platform import LocalPlatform, local_platform, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.upstream import Upstream

ROWS: list[dict[str, Any]] = [
    {"input": 'What does "é" mean?', "output": "a letter\nwith an accent"},
    {"input": "", "output": None, "weight": 0.25, "tags": ["a", {"deep": [1, [2, {"x": True}]]}], "n": -3},
]


DEEP = b'{"deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def send(http: httpx.Client, content: bytes | Iterator[bytes]) -> httpx.Response:
    return http.post("/v1/local-data", content=content, headers={"Content-Type": "application/json"})


def body(rows: Any, **more: Any) -> bytes:
    return json.dumps({"upload_base_path": "local", "data": rows, **more}).encode()


def stored(platform: LocalPlatform, dataset_id: str) -> list[Any]:
    lines = (platform.data / "datasets" / f"{dataset_id}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def left_over(platform: LocalPlatform) -> list[Path]:
    return list((platform.data / "datasets").glob("*.part"))


def test_rows_in_a_request_become_a_dataset(http: httpx.Client, platform: LocalPlatform) -> None:
    base = check(http.get("/v1/get-upload-base-path"), "/v1/get-upload-base-path")
    assert base["upload_base_path"] == "local"
    sent = {"upload_base_path": "local", "data": ROWS, "is_public": True}
    made = check(http.post("/v1/local-data", json=sent), "/v1/local-data")
    assert stored(platform, made["dataset_id"]) == ROWS
    query = {"dataset_id": made["dataset_id"], "upload_base_path": "local"}
    found = check(http.post("/v1/existing-data", json=query), "/v1/existing-data")
    assert found == {"dataset_location": made["dataset_location"]}


def test_fields_may_arrive_in_any_order_and_any_chunks(http: httpx.Client, platform: LocalPlatform) -> None:
    rows, rest = json.dumps(ROWS), '"is_public": null, "other": {"data": [1]}, "upload_base_path": "local"'
    for text in (f'{{"data": {rows}, {rest}}}', f' {{{rest},"data" :{rows}}} \n'):
        content = text.encode()
        response = send(http, (content[start : start + 7] for start in range(0, len(content), 7)))
        assert response.status_code == 200, response.text
        assert stored(platform, response.json()["dataset_id"]) == ROWS


def test_a_huge_body_is_stored_while_it_arrives(http: httpx.Client, platform: LocalPlatform) -> None:
    """The server's peak memory grows by less than a third of the body's size."""

    def peak() -> int:
        status = Path(f"/proc/{platform.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    row = json.dumps({"input": "word " * 200, "output": "answer"}).encode()
    count = 40_000

    def content() -> Iterator[bytes]:
        yield b'{"upload_base_path": "local", "data": ['
        for start in range(0, count, 500):
            yield (b"," if start else b"") + b",".join([row] * 500)
        yield b"]}"

    before = peak()
    response = send(http, content())
    assert response.status_code == 200, response.text
    size = (platform.data / "datasets" / f"{response.json()['dataset_id']}.jsonl").stat().st_size
    assert size > count * 1000
    assert peak() - before < size / 3


@pytest.mark.parametrize(
    ("content", "location"),
    [
        (body([*ROWS, "no row"]), ["body", "data", 2]),
        (body([[1]]), ["body", "data", 0]),
        (body({"input": "a"}), ["body", "data"]),
        (body([]), ["body", "data"]),
        (json.dumps({"upload_base_path": "local"}).encode(), ["body", "data"]),
        (json.dumps({"data": ROWS}).encode(), ["body", "upload_base_path"]),
        (body(ROWS)[:-1], ["body"]),
        (body(ROWS)[:60], ["body"]),
        (body(ROWS) + b"{", ["body"]),
        (body(ROWS).replace(b"0.25", b"1e999"), ["body"]),
        (body([ROWS[0], "deep"]).replace(b'"deep"', DEEP), ["body", "data", 1]),
        (b"[]", ["body"]),
        (b"", ["body"]),
        (b"no json: secret text", ["body"]),
        (body(ROWS).replace(b"0.25", b"NaN"), ["body"]),
        (b'{"upload_base_path": "local", "data": [{"a": 1}], "data": [{"a": 1}]}', ["body", "data"]),
    ],
)
def test_invalid_rows_are_rejected_with_their_location(
    http: httpx.Client, platform: LocalPlatform, content: bytes, location: list[str | int]
) -> None:
    before = sorted((platform.data / "datasets").iterdir())
    response = send(http, content)
    assert response.status_code == 422, response.text
    [error] = response.json()["detail"]
    assert error["loc"] == location
    assert "secret" not in response.text
    assert sorted((platform.data / "datasets").iterdir()) == before


def test_an_interrupted_upload_leaves_no_file_behind(http: httpx.Client, platform: LocalPlatform) -> None:
    def broken() -> Iterator[bytes]:
        yield body(ROWS)[:50]
        wait_until(lambda: left_over(platform))
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        send(http, broken())
    assert http.get("/healthz").status_code == 200
    wait_until(lambda: left_over(platform) == [])


def test_the_upload_base_must_be_the_configured_one(http: httpx.Client, platform: LocalPlatform) -> None:
    response = http.post("/v1/local-data", json={"upload_base_path": "azure", "data": ROWS})
    assert response.status_code == 400
    assert "'local'" in response.json()["detail"]
    response = http.post("/v1/data", json={"upload_base_path": "local"})
    assert response.status_code == 400
    assert "/v1/local-data" in response.json()["detail"]
    assert left_over(platform) == []


def test_an_unknown_dataset_returns_404(http: httpx.Client) -> None:
    for unknown in ("none-such", "../platform", "a/b"):
        query = {"dataset_id": unknown, "upload_base_path": "local"}
        assert http.post("/v1/existing-data", json=query).status_code == 404
        counted = {"dataset_id": unknown, "num_datapoints": 1}
        assert http.post("/v1/data/num-datapoints", json=counted).status_code == 404


def test_datasets_survive_a_restart(engine: Upstream, data: Path) -> None:
    with local_platform(data, engine.url) as platform:
        with platform.client() as http:
            made = http.post("/v1/local-data", json={"upload_base_path": "local", "data": ROWS}).json()
        platform.kill()
        (data / "datasets" / "broken-upload.part").touch()
        platform.restart()
        with platform.client() as http:
            query = {"dataset_id": made["dataset_id"], "upload_base_path": "local"}
            assert http.post("/v1/existing-data", json=query).json() == {
                "dataset_location": made["dataset_location"]
            }
        assert left_over(platform) == []
