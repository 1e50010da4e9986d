"""Files of a form are read in blocks, anew at each attempt, one at a time, and are always closed."""

from __future__ import annotations

import asyncio
import gc
import io
import re
import time
import tracemalloc
from email import message_from_bytes

import httpx
import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.platforms.lamini.api import memory_rag
from tests.support.loop_lag import quietest, with_gaps

STARTED = httpx.Response(200, json={"job_id": 5, "status": "CREATED"})


class Shelf:
    """Counts how often files are opened and how many are open."""

    def __init__(self):
        self.opened = 0
        self.open = 0
        self.most_open = 0
        self.largest_read = 0

    def part(self, name, content, kind=io.BytesIO):
        shelf = self

        class Counted(kind):
            def read(self, size=-1):
                shelf.largest_read = max(shelf.largest_read, size if size >= 0 else 1 << 60)
                return super().read(size)

            def close(self):
                if not self.closed:
                    shelf.open -= 1
                super().close()

        def open_it():
            shelf.opened += 1
            shelf.open += 1
            shelf.most_open = max(shelf.most_open, shelf.open)
            return Counted(content)

        return FilePart(name, open_it, "text/plain")


class Pipe(io.RawIOBase):
    """Bytes that cannot be rewound."""

    def __init__(self, content):
        self._rest = content

    def read(self, size=-1):
        block, self._rest = self._rest[:size], self._rest[size:]
        return block


@pytest.fixture
def shelf():
    return Shelf()


def parts_of(request):
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    found = message_from_bytes(head + request.content).get_payload()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type() if part.get_filename() else None,
            part.get_payload(decode=True),
        )
        for part in found
    ]


def test_a_form_contains_its_fields_and_files(driver, settings, responses, shelf):
    app = responses(STARTED)
    call = memory_rag.train(
        model_name="org/m", files=[shelf.part("a.txt", b"first"), shelf.part("zwei ü.txt", b"second\r\n--x")]
    )
    assert driver.send(settings(headers={"Content-Type": "text/x"}), call, app=app).job_id == "5"
    (request,) = app.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert request.headers["authorization"] == "Bearer secret-key-123"
    assert int(request.headers["content-length"]) == len(request.content)
    fields, first, second = parts_of(request)
    assert fields == ("model_name", None, None, b"org/m")
    assert first == ("files", "a.txt", "text/plain", b"first")
    assert second[0], second[3] == ("files", b"second\r\n--x")
    assert shelf.open == 0


def test_a_retry_sends_the_files_completely_again(driver, settings, responses, shelf):
    app = responses(httpx.Response(429), httpx.Response(513), STARTED)
    call = memory_rag.train(model_name="m", files=(shelf.part(f"{n}.txt", b"x" * 100_000) for n in range(3)))
    driver.send(settings(), call, app=app)
    sizes = {len(request.content) for request in app.requests}
    assert len(app.requests) == 3
    assert sizes == {len(app.requests[0].content)}
    assert min(sizes) > 300_000
    assert shelf.open == 0


def test_one_file_is_open_at_a_time_and_is_read_in_blocks(driver, settings, responses, shelf):
    files = [shelf.part(f"{number}.txt", b"x" * 200_000) for number in range(50)]
    driver.send(settings(), memory_rag.train(model_name="m", files=files), app=responses(STARTED))
    assert shelf.most_open == 1
    assert shelf.open == 0
    assert shelf.largest_read <= 1 << 20


def test_a_file_that_cannot_be_rewound_is_sent_without_a_length(driver, settings, responses, shelf):
    app = responses(STARTED)
    call = memory_rag.train(model_name="m", files=[shelf.part("pipe", b"y" * 70_000, Pipe)])
    driver.send(settings(), call, app=app)
    (request,) = app.requests
    assert request.headers["transfer-encoding"] == "chunked"
    assert parts_of(request)[1][3] == b"y" * 70_000


def test_a_missing_file_fails_before_anything_is_sent(driver, settings, responses, shelf, tmp_path):
    app = responses(STARTED)
    files = [shelf.part("a.txt", b"a"), FilePart("gone.txt", lambda: (tmp_path / "gone.txt").open("rb"))]
    with pytest.raises(FileNotFoundError):
        driver.send(settings(), memory_rag.train(model_name="m", files=files), app=app)
    assert app.requests == []
    assert shelf.open == 0


def test_a_file_is_closed_when_the_connection_breaks(driver, settings, raw_server, raw, shelf):
    def read_a_little(connection):
        connection.recv(1000)
        connection.close()

    server = raw_server(raw.drop)
    server.serve = read_a_little
    call = memory_rag.train(model_name="m", files=[shelf.part("big", b"z" * 30_000_000)])
    driver.clock = time.monotonic
    with pytest.raises(errors.UnavailableError) as caught:
        driver.send(settings(server.url), call)
    assert caught.value.may_have_started is True
    assert shelf.open == 0


@pytest.mark.long
def test_memory_does_not_depend_on_the_size_of_the_file(driver, settings, raw_server, raw, tmp_path):
    size = 200 << 20
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(size)
    server = raw_server(raw.reply(b'{"job_id": 1, "status": "CREATED"}'))
    driver.clock = time.monotonic
    call = memory_rag.train(
        model_name="m", files=[FilePart("large.bin", lambda: (tmp_path / "large.bin").open("rb"))]
    )
    gc.collect()
    tracemalloc.start()
    try:
        driver.send(settings(server.url), call)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    ((head, seen),) = server.requests
    assert seen > size
    assert int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1]) == seen
    assert peak < 16 << 20


@pytest.mark.long
def test_a_slow_disk_does_not_block_the_event_loop(settings, responses):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            time.sleep(0.15)
            return super().read(size)

        def seek(self, *arguments):
            time.sleep(0.15)
            return super().seek(*arguments)

    call = memory_rag.train(model_name="m", files=[FilePart("slow", lambda: Slow(b"a" * 150_000))])

    async def run():
        async with AsyncClient(settings(), transport=httpx.MockTransport(responses(STARTED))) as client:
            return await with_gaps(client.send(call))

    _, gaps = quietest(lambda: asyncio.run(run()), 0.12)
    assert sum(gaps) > 0.45
    assert max(gaps) < 0.12
