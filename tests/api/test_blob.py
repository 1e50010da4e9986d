"""A dataset goes to a blob whole or not at all, in bounded memory, and its signature shows up nowhere."""

from __future__ import annotations

import io
import logging
import os
import tracemalloc

import pytest

from airflow_provider_lamini.api import azure_blob, errors
from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.settings import ClientSettings
from tests.support.blob_store import SIGNATURE, blob_store


@pytest.fixture
def store():
    with blob_store() as serving:
        yield serving


def upload(store, content, *, path="/datasets/one.jsonl", block=1000, url=None, **settings):
    known = ClientSettings(
        base_url="http://platform.test", key="secret-key-123", **{"retry_budget": 5, **settings}
    )
    part = FilePart("rows.jsonl", lambda: io.BytesIO(content), "application/jsonl")
    return azure_blob.upload(url or store.signed(path), part, known, block=block)


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_small_file_is_one_request(store, size):
    content = os.urandom(size)
    assert upload(store, content) == size
    assert store.blobs == {"/datasets/one.jsonl": content}
    assert len(store.requests) == 1


@pytest.mark.parametrize("size", [1001, 2000, 4321])
def test_a_larger_file_is_uploaded_in_blocks(store, size):
    content = os.urandom(size)
    assert upload(store, content) == size
    assert store.blobs["/datasets/one.jsonl"] == content
    assert len(store.requests) == -(-size // 1000) + 1


def test_special_characters_in_path_and_signature_are_unchanged(store):
    upload(store, b"x", path="/data%20sets/a%2Bb.jsonl")
    assert list(store.blobs) == ["/data%20sets/a%2Bb.jsonl"]


def test_neither_key_nor_headers_of_the_platform_reach_the_store(store):
    upload(store, b"x" * 3000, headers={"X-Team": "data"})
    for headers in store.headers:
        assert "authorization" not in headers
        assert "x-team" not in headers


@pytest.mark.long
def test_a_block_is_retried_after_a_transient_failure(store):
    store.fail_next = [503, 500]
    assert upload(store, b"ab" * 2000) == 4000
    assert store.blobs["/datasets/one.jsonl"] == b"ab" * 2000


def test_an_interrupted_upload_leaves_no_blob(store):
    store.fail_next = [400]
    with pytest.raises(errors.BadRequestError):
        upload(store, b"x" * 3000)
    assert store.blobs == {}


def test_the_error_of_an_expired_signature_does_not_contain_it(store, caplog):
    with caplog.at_level(logging.DEBUG, "httpx"), pytest.raises(errors.AuthenticationError) as failed:
        upload(store, b"x", url=f"{store.url}/datasets/one.jsonl?sig=an-old-signature")
    assert "signed URL may have expired" in str(failed.value)
    assert "an-old-signature" not in str(failed.value) + caplog.text
    assert failed.value.__cause__ is None


def test_no_log_line_contains_the_signature(store, caplog, monkeypatch):
    # Airflow's own logging set-up disables loggers that are there before it.
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", False)
    caplog.set_level(logging.DEBUG, "httpx")  # as a user may set it
    with caplog.at_level(logging.DEBUG):
        upload(store, b"x" * 3000)
    # httpcore's own lines at DEBUG are what is on the wire.
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert any("blocklist" in line for line in lines)
    assert not any(SIGNATURE in line for line in lines)


@pytest.mark.parametrize("url", ["", "/datasets/one", "ftp://store/one", "https://user@store/one"])
def test_an_invalid_url_is_refused_and_not_shown(store, url):
    with pytest.raises(errors.ProtocolError, match="no valid URL") as failed:
        upload(store, b"x", url=url or " ")
    assert not url or url not in str(failed.value)


def test_memory_depends_on_blocks_and_not_on_the_file(store, tmp_path):
    file = tmp_path / "large.jsonl"
    file.write_bytes(b"x" * 40_000_000)
    known = ClientSettings(base_url="http://platform.test", key="k")
    store.put = lambda *_: 201  # keeps nothing
    tracemalloc.start()
    part = FilePart("rows.jsonl", lambda: file.open("rb"))
    assert azure_blob.upload(store.signed("/one"), part, known, block=1_000_000) == 40_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000
