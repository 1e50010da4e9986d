"""Downloads go to a file block by block, and a file never holds a part twice."""

from __future__ import annotations

import gc
import io
import time
import tracemalloc

import httpx
import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.platforms.lamini.api import classifier_projects

CALL = classifier_projects.download_dataset(project_name="p", dataset_name="d")


class Unseekable(io.BytesIO):
    def seekable(self):
        return False


def test_the_response_is_written_to_the_file(driver, settings, responses):
    to = io.BytesIO()
    content = bytes(range(256)) * 1000
    assert driver.download(settings(), CALL, to, app=responses(httpx.Response(200, content=content))) == len(
        content
    )
    assert to.getvalue() == content


def test_a_refusal_is_raised_and_nothing_is_written(driver, settings, responses):
    to = io.BytesIO()
    with pytest.raises(errors.NotFoundError, match="no such dataset"):
        driver.download(
            settings(), CALL, to, app=responses(httpx.Response(404, json={"detail": "no such dataset"}))
        )
    assert to.getvalue() == b""


def test_an_interrupted_download_starts_again_from_the_beginning(driver, settings, raw_server, raw):
    server = raw_server(raw.cut(b"0123456789" * 5000), raw.reply(b"0123456789"))
    driver.clock = time.monotonic
    to = io.BytesIO(b"kept:")
    to.seek(5)
    assert driver.download(settings(server.url), CALL, to) == 10
    assert to.getvalue() == b"kept:0123456789"


def test_an_interrupted_download_into_an_unseekable_file_is_an_error(driver, settings, raw_server, raw):
    server = raw_server(raw.cut(b"0123456789" * 5000), raw.reply(b"0123456789"))
    driver.clock = time.monotonic
    with pytest.raises(errors.UnavailableError, match="A part of the file was already written"):
        driver.download(settings(server.url), CALL, Unseekable())
    assert len(server.requests) == 1


def test_an_unseekable_file_allows_retries_until_something_was_written(driver, settings, responses):
    to = Unseekable()
    app = responses(httpx.Response(503), httpx.Response(200, content=b"x"))
    assert driver.download(settings(), CALL, to, app=app) == 1
    assert to.getvalue() == b"x"


def test_a_download_may_be_redirected_to_a_store_that_does_not_get_the_key(driver, settings):
    def app(request):
        seen.append(request)
        if request.url.host == "platform.test":
            return httpx.Response(302, headers={"Location": "https://store.test/blob?signature=s"})
        return httpx.Response(200, content=b"rows")

    seen, to = [], io.BytesIO()
    driver.download(settings(headers={"X-Token": "t"}), CALL, to, app=app)
    assert to.getvalue() == b"rows"
    assert seen[1].url.host == "store.test"
    for name in ("authorization", "x-token", "lamini-version"):
        assert name in seen[0].headers
        assert name not in seen[1].headers
    assert "secret-key-123" not in str(seen[1].headers.raw)


def test_memory_does_not_depend_on_the_size_of_the_response(driver, settings, raw_server, tmp_path):
    size = 100 << 20

    def endless(connection):
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            connection.sendall(block)

    server = raw_server(endless)
    driver.clock = time.monotonic
    gc.collect()
    with (tmp_path / "down.bin").open("wb") as to:
        tracemalloc.start()
        try:
            assert driver.download(settings(server.url), CALL, to) == size
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (tmp_path / "down.bin").stat().st_size == size
    assert peak < 16 << 20
