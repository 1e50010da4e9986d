"""Datasets that are uploaded to a blob with a signed URL."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_provider_lamini.api import azure_blob
from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.local.datasets.signed_urls import UrlSigner
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.contract import check
from tests.support.local_platform import local_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform
    from tests.support.upstream import Upstream

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(50)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
WHOLE = {"x-ms-blob-type": "BlockBlob"}
AZURE = {"upload_base_path": "azure"}


@pytest.fixture
def azure(http: httpx.Client, platform: LocalPlatform) -> httpx.Client:
    platform.control.upload_base("azure")
    return http


@pytest.fixture
def no_key_client() -> Iterator[httpx.Client]:
    """A client without the platform's API key."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        yield client


def make(http: httpx.Client) -> tuple[str, str]:
    made = check(http.post("/v1/data", json=AZURE), "/v1/data")
    return made["dataset_id"], made["dataset_location"]


def count(http: httpx.Client, dataset_id: str, rows: int) -> httpx.Response:
    return http.post("/v1/data/num-datapoints", json={"dataset_id": dataset_id, "num_datapoints": rows})


def block_id(number: int) -> str:
    return base64.b64encode(f"{number:08d}".encode()).decode()


def with_query(url: str, **more: str) -> httpx.URL:
    return httpx.URL(url).copy_merge_params(more)


def block_list(*names: str) -> str:
    return f"<BlockList>{''.join(f'<Latest>{name}</Latest>' for name in names)}</BlockList>"


def test_rows_uploaded_in_one_request_become_a_dataset(
    azure: httpx.Client, no_key_client: httpx.Client
) -> None:
    base = check(azure.get("/v1/get-upload-base-path"), "/v1/get-upload-base-path")
    assert base.items() >= AZURE.items()
    dataset_id, url = make(azure)
    assert urlsplit(url).path == f"/blobs/datasets/{dataset_id}.jsonl"
    missing = no_key_client.head(url)
    assert (missing.status_code, missing.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    assert count(azure, dataset_id, 50).status_code == 400
    put = no_key_client.put(url, content=LINES, headers=WHOLE)
    assert (put.status_code, bool(put.headers["etag"])) == (201, True)
    properties = no_key_client.head(url)
    assert (properties.status_code, properties.headers["content-length"]) == (200, str(len(LINES)))
    assert check(count(azure, dataset_id, 50), "/v1/data/num-datapoints")["num_datapoints"] == 50
    found = azure.post("/v1/existing-data", json={"dataset_id": dataset_id, **AZURE}).json()
    assert found == {"dataset_location": f"azure/{dataset_id}.jsonl"}


def test_blocks_are_committed_in_the_order_of_the_block_list(
    azure: httpx.Client, no_key_client: httpx.Client, platform: LocalPlatform
) -> None:
    dataset_id, url = make(azure)
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    for number, part in ((1, LINES[half:]), (0, b"is replaced"), (0, LINES[:half])):
        put = no_key_client.put(with_query(url, comp="block", blockid=block_id(number)), content=part)
        assert put.status_code == 201
    assert no_key_client.head(url).status_code == 404
    names = block_list(block_id(0), block_id(1))
    assert no_key_client.put(with_query(url, comp="blocklist"), content=names).status_code == 201
    assert (platform.data / "datasets" / f"{dataset_id}.jsonl").read_bytes() == LINES
    assert not list((platform.data / "datasets").glob("*.blocks"))
    assert count(azure, dataset_id, 50).status_code == 200


def test_the_providers_upload_works_with_one_block_and_with_many(
    azure: httpx.Client, platform: LocalPlatform
) -> None:
    settings = ClientSettings(dialect=LAMINI_DIALECT, base_url=platform.url, key=platform.key)
    for size in (1 << 20, 100):
        dataset_id, url = make(azure)
        sent = azure_blob.upload(url, FilePart("rows.jsonl", lambda: io.BytesIO(LINES)), settings, block=size)
        assert sent == len(LINES)
        assert count(azure, dataset_id, 50).status_code == 200


def test_a_wrong_row_count_and_an_invalid_row_are_reported(
    azure: httpx.Client, no_key_client: httpx.Client
) -> None:
    dataset_id, url = make(azure)
    no_key_client.put(url, content=LINES, headers=WHOLE)
    wrong = count(azure, dataset_id, 49)
    assert wrong.status_code == 400
    assert "has 50 rows, not 49" in wrong.json()["detail"]
    no_key_client.put(url, content=LINES + b'["secret"]\n', headers=WHOLE)
    bad = count(azure, dataset_id, 51)
    assert bad.status_code == 400
    assert "Row 50" in bad.json()["detail"]
    assert "secret" not in bad.text


def _other_blob(url: str) -> httpx.URL:
    parts = httpx.URL(url)
    return parts.copy_with(path="/blobs/datasets/" + "0" * 32 + ".jsonl")


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("sig=", "sig=A"),
        lambda url: url.partition("?")[0],
        lambda url: url.replace("se=2", "se=3"),
        _other_blob,
        lambda url: with_query(url, sp="rcwd"),
    ],
)
def test_a_signature_is_valid_for_one_unchanged_url_only(
    azure: httpx.Client, no_key_client: httpx.Client, change: Any
) -> None:
    _, url = make(azure)
    response = no_key_client.put(change(url), content=LINES, headers=WHOLE)
    assert (response.status_code, response.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    assert "<Code>AuthenticationFailed</Code>" in response.text
    assert no_key_client.head(url).status_code == 404


def test_a_signature_expires() -> None:
    signer = UrlSigner("secret")
    for seconds, allowed in ((60, True), (-1, False)):
        query = dict(httpx.QueryParams(signer.query("/a", seconds)))
        assert signer.allows("/a", query) is allowed
        assert not signer.allows("/b", query)
        assert not UrlSigner("another").allows("/a", query)


@pytest.mark.parametrize(
    ("query", "headers", "content", "code"),
    [
        ({}, {}, LINES, "MissingRequiredHeader"),
        ({}, {"x-ms-blob-type": "PageBlob"}, LINES, "InvalidHeaderValue"),
        ({"comp": "page"}, WHOLE, LINES, "InvalidQueryParameterValue"),
        ({"comp": "block", "blockid": "no base64!"}, {}, LINES, "InvalidQueryParameterValue"),
        ({"comp": "block"}, {}, LINES, "InvalidQueryParameterValue"),
        ({"comp": "blocklist"}, {}, block_list(block_id(7)).encode(), "InvalidBlockList"),
        ({"comp": "blocklist"}, {}, b"<BlockList/>", "InvalidBlockList"),
    ],
)
def test_the_blob_service_returns_azures_error_codes(
    azure: httpx.Client, query: dict[str, str], headers: dict[str, str], content: bytes, code: str
) -> None:
    _, url = make(azure)
    with httpx.Client(trust_env=False) as no_key_client:
        response = no_key_client.put(with_query(url, **query), content=content, headers=headers)
        assert (response.status_code, response.headers["x-ms-error-code"]) == (400, code)
        assert no_key_client.head(url).status_code == 404


def test_an_existing_blob_is_not_replaced_if_it_must_be_new(
    azure: httpx.Client, no_key_client: httpx.Client
) -> None:
    _, url = make(azure)
    new = {**WHOLE, "If-None-Match": "*"}
    assert no_key_client.put(url, content=LINES, headers=new).status_code == 201
    again = no_key_client.put(url, content=LINES, headers=new)
    assert (again.status_code, again.headers["x-ms-error-code"]) == (409, "BlobAlreadyExists")


def test_faults_apply_to_blobs_too(
    azure: httpx.Client, no_key_client: httpx.Client, platform: LocalPlatform
) -> None:
    _, url = make(azure)
    platform.control.fault("/blobs/.*", method="PUT", status=503)
    assert no_key_client.put(url, content=LINES, headers=WHOLE).status_code == 503
    assert no_key_client.put(url, content=LINES, headers=WHOLE).status_code == 201


def test_upload_base_is_a_command_line_option_and_uploads_survive_restarts(
    engine: Upstream, data: Path
) -> None:
    """After a crash, signed URLs and uploaded blocks from before it are still valid."""
    with local_platform(data, engine.url, arguments=("--upload-base", "azure")) as platform:
        with platform.client() as http:
            dataset_id, url = make(http)
        with httpx.Client(trust_env=False) as no_key_client:
            block = with_query(url, comp="block", blockid=block_id(0))
            assert no_key_client.put(block, content=LINES).status_code == 201
            platform.kill()
            platform.restart()
            listed = no_key_client.put(with_query(url, comp="blocklist"), content=block_list(block_id(0)))
            assert listed.status_code == 201
        with platform.client() as http:
            assert count(http, dataset_id, 50).status_code == 200
            platform.control.upload_base("local")
            platform.control.reset()
            assert http.get("/v1/get-upload-base-path").json().items() >= AZURE.items()
