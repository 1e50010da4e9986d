"""Requests that are too large, malformed, or addressed to somebody else: one sentence, and never a 500."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    import httpx

    from tests.support.local_platform import LocalPlatform

EMBED = "/v1/embedding"
COMPLETE = "/v1/completions"
JSON = {"content-type": "application/json"}

TEXT_ENDPOINTS = [
    "/v1/completions",
    "/v2/completions",
    "/v3/streaming_completions",
    "/v1/batch_completions",
    "/v1/batch_embeddings",
    "/v1/embedding",
    "/inf/chat/completions",
    "/v1/eval/run",
    "/v1/train",
    "/v1/data",
    "/v1/local-data",
    "/v1alpha/downloaded_models",
    "/v2/classifier/initialize",
    "/v2/classifier/add",
    "/v2/classifier/train",
    "/v2/classifier/update_job",
    "/v2/classifier/register",
    "/v2/classifier/x/classify",
    "/alpha/memory-rag/completions",
    "/alpha/memory-rag/add-index",
    "/alpha/memory-rag/status",
    "/alpha/memory-rag/suggestions",
]


def sentence(response: httpx.Response) -> str:
    """The detail of an error, which must be one sentence."""
    detail = response.json()["detail"]
    text = detail if isinstance(detail, str) else detail[0]["msg"]
    assert isinstance(text, str)
    assert len(text) > 10
    return text


# -- bodies


@pytest.mark.parametrize("path", TEXT_ENDPOINTS)
@pytest.mark.parametrize(
    "text", [b'"\\ud800"', b'"a\\udc00b"', b'"\\uD83D x"', b'"\xed\xa0\x80"', b'"\xff"'], ids=repr
)
def test_text_that_is_not_valid_unicode_is_refused_by_every_endpoint(
    http: httpx.Client, path: str, text: bytes
) -> None:
    fields = ("prompt", "model_name", "model", "job_id", "name", "project_name", "hf_model_name", "data")
    body = b"{" + b", ".join(b'"%s": %s' % (field.encode(), text) for field in fields) + b"}"
    response = http.post(path, content=body, headers=JSON)
    assert response.status_code == 422
    assert sentence(response)


def test_valid_surrogate_pairs_are_text(http: httpx.Client) -> None:
    body = b'{"model_name": "%s", "prompt": "\\ud83d\\ude00 \\\\ud800"}' % TEXT_MODEL.encode()
    response = http.post(COMPLETE, content=body, headers=JSON)
    assert response.status_code == 200
    assert response.json() == {"output": "\\ud800 \U0001f600"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_body_in_another_encoding_is_refused(http: httpx.Client, encoding: str) -> None:
    assert http.post(EMBED, content='{"prompt": "a"}'.encode(encoding), headers=JSON).status_code == 422


@pytest.mark.parametrize("charset", ["utf-16", "klingon", "utf-7", "iso-8859-1"])
def test_another_charset_is_refused(http: httpx.Client, charset: str) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    response = http.post(EMBED, content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == 415
    assert "UTF-8" in sentence(response)


def test_a_compressed_body_is_refused(http: httpx.Client) -> None:
    response = http.post(EMBED, content=b"\x1f\x8b", headers={**JSON, "content-encoding": "gzip"})
    assert response.status_code == 415


@pytest.mark.parametrize("boundary", ["", "x" * 71, "x" * 60_000])
def test_a_bad_multipart_boundary_is_refused(http: httpx.Client, boundary: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    response = http.post("/alpha/memory-rag/train", content=b"--x\r\n", headers=headers)
    assert response.status_code == 400
    assert "boundary" in sentence(response)


@pytest.mark.parametrize("path", [path for path in TEXT_ENDPOINTS if path != "/v1/local-data"])
def test_a_body_beyond_the_limit_is_refused_before_it_is_read(small_limits: LocalPlatform, path: str) -> None:
    with small_limits.client() as small:
        response = small.post(path, content=b'{"prompt": "%s"}' % (b"a" * 1_100_000), headers=JSON)
        assert response.status_code == 413
        assert sentence(response) == "The body is larger than 1 MiB, the limit of this endpoint."
        assert small.get("/healthz").status_code == 200


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(small_limits: LocalPlatform) -> None:
    with small_limits.client() as small:
        response = small.post(EMBED, content=(b"a" * 100_000 for _ in range(20)), headers=JSON)
    assert response.status_code == 413


def test_an_upload_has_a_limit_of_its_own(small_limits: LocalPlatform) -> None:
    row = b'{"input": "%s"}' % (b"a" * 50_000)
    with small_limits.client() as small:
        for rows, status in ((30, 200), (50, 413)):
            body = b'{"upload_base_path": "local", "data": [' + b", ".join([row] * rows) + b"]}"
            assert small.post("/v1/local-data", content=body, headers=JSON).status_code == status


def test_too_many_values_are_refused_even_if_they_are_small(http: httpx.Client) -> None:
    body = b'{"prompt": [' + b",".join([b'""'] * 300_000) + b"]}"
    response = http.post(EMBED, content=body, headers=JSON)
    assert response.status_code == 413
    assert "100000 values" in sentence(response)


def test_commas_within_texts_are_not_values(http: httpx.Client) -> None:
    text = "a," * 300_000
    response = http.post("/v1/batch_embeddings", json={"prompt": [text]})
    assert response.status_code == 200


def test_validation_stops_at_the_first_errors_of_a_list(http: httpx.Client) -> None:
    response = http.post(EMBED, json={"prompt": [1] * 90_000})
    assert response.status_code == 422
    assert len(response.json()["detail"]) <= 3


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}"])
def test_deep_nesting_is_refused(http: httpx.Client, body: bytes) -> None:
    assert http.post(EMBED, content=body, headers=JSON).status_code in (400, 422)


def test_a_number_of_many_digits_is_refused(http: httpx.Client) -> None:
    assert http.post(EMBED, content=b'{"prompt": %s}' % (b"9" * 10_000), headers=JSON).status_code in (
        400,
        422,
    )


# -- hosts, methods and paths


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "a b"])
def test_a_request_for_another_host_is_refused(http: httpx.Client, host: str) -> None:
    response = http.get("/healthz", headers={"host": host})
    assert response.status_code == 400
    assert "host" in sentence(response).lower()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "localhost."])
def test_a_request_for_loopback_is_answered(http: httpx.Client, host: str) -> None:
    assert http.get("/healthz", headers={"host": host}).status_code == 200


def test_other_hosts_can_be_allowed(small_limits: LocalPlatform) -> None:
    with small_limits.client() as small:
        assert small.get("/healthz", headers={"host": "models.example"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/train/jobs/cancel", {"POST"}),
        ("GET", "/v1/train/jobs/7/cancel", {"POST"}),
        ("GET", "/v1/train/jobs/x/cancel", {"POST"}),
        ("PUT", "/alpha/memory-rag/status", {"GET", "POST"}),
        ("PATCH", "/v1alpha/downloaded_models", {"GET", "POST"}),
        ("GET", "/v2/classifier/x/classify", {"POST", "DELETE"}),
        ("DELETE", "/blobs/datasets/x.jsonl", {"HEAD", "PUT"}),
    ],
)
def test_a_wrong_method_is_answered_with_all_that_are_allowed(
    http: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    response = http.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("job_id", ["x", "-1", "1.5", "9" * 30, "9" * 5000, "%ff"])
def test_a_job_id_of_another_form_is_not_found(http: httpx.Client, job_id: str) -> None:
    assert http.get(f"/v1/train/jobs/{job_id}").status_code in (404, 498)


def test_every_endpoint_refuses_a_body_of_any_other_type_without_a_500(http: httpx.Client) -> None:
    for path in TEXT_ENDPOINTS:
        for value in (None, 3, "x", [], [1], {"": 1}, {"prompt": {}}, {"data": 1}):
            response = http.post(path, content=json.dumps(value), headers=JSON)
            assert response.status_code in (400, 404, 422), (path, value, response.text)
            assert re.search(r"\w", str(response.json()["detail"]))
