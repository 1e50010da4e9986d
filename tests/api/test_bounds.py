"""No response takes more memory or time than its call allows, whatever the platform sends."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.platforms.lamini.api import batches, classifier_projects, training_list, version
from tests.support.loop_lag import quietest, with_gaps

READ_VERSION = version.version()
START = batches.start_completions(model_name="m", prompt=["p"])
RESULT = batches.completions_result("b1")
PROGRESS = batches.completions_progress("b1")
DOWNLOAD = classifier_projects.download_dataset(project_name="p", dataset_name="d")
LIST = training_list.list_all({"1"}, lambda job: job.job_id)
MB = 1_000_000


@pytest.fixture(autouse=True)
def real_time(request):
    if "driver" in request.fixturenames:
        request.getfixturevalue("driver").clock = time.monotonic


def head(*headers, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def sends(*blocks, start=None):
    """A server that sends a head, some blocks, and closes the connection."""

    def act(connection):
        connection.sendall(start or head())
        for block in blocks:
            connection.sendall(block)

    return act


def endless(block=bytes(65_536), *, start=None, pause=0.0):
    """A server that sends blocks for ever."""

    def act(connection):
        connection.sendall(start or head())
        while True:
            connection.sendall(block)
            time.sleep(pause)

    return act


@cache
def bomb(coding="gzip", megabytes=150):
    """A small body that decompresses to a large one; its beginning is valid JSON."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16 if coding == "gzip" else zlib.MAX_WBITS)
    packed = packer.compress(b'{"server": "1"' + b" " * MB)
    packed += b"".join(packer.compress(b" " * MB) for _ in range(megabytes - 1))
    return packed + packer.flush()


def a_bomb(coding="gzip", status="200 OK"):
    body = bomb(coding)
    assert len(body) < MB
    return sends(
        body, start=head(f"Content-Encoding: {coding}", f"Content-Length: {len(body)}", status=status)
    )


def test_an_endless_body_is_too_large_and_not_requested_again(poller, settings, raw_server):
    server = raw_server(endless())
    with pytest.raises(
        errors.ResponseTooLargeError, match=r"too large: more than 1 MB\. It was not read"
    ) as caught:
        poller.send(settings(server.url), READ_VERSION)
    assert caught.value.status == 200
    assert len(server.requests) == 1


def test_an_announced_size_is_refused_before_the_body(poller, settings, raw_server):
    server = raw_server(sends(start=head(f"Content-Length: {MB + 1}")))
    with pytest.raises(errors.ResponseTooLargeError):
        poller.send(settings(server.url), READ_VERSION)


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "1e9", "0x10"])
def test_a_senseless_announced_size_is_an_error_of_the_platform(poller, settings, raw_server, size):
    server = raw_server(sends(b"{}", start=head(f"Content-Length: {size}")))
    with pytest.raises(errors.PlatformError):
        poller.send(settings(server.url, retry_budget=0.0), READ_VERSION)


@pytest.mark.long
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_small_body_cannot_become_a_large_one(poller, settings, raw_server, coding):
    with pytest.raises(errors.ResponseTooLargeError):
        poller.send(settings(raw_server(a_bomb(coding)).url), READ_VERSION)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "nonsense"])
def test_a_compression_that_was_not_requested_is_refused(poller, settings, raw_server, coding):
    server = raw_server(sends(b"x" * 100, start=head(f"Content-Encoding: {coding}")))
    with pytest.raises(
        errors.ProtocolError, match="cannot be decompressed: its Content-Encoding was not asked for"
    ):
        poller.send(settings(server.url), READ_VERSION)
    (request, _) = server.requests[0]
    assert "accept-encoding: gzip, deflate\r\n" in request.lower() + "\r\n"


def test_a_compressed_name_without_an_end_is_too_large(poller, settings, raw_server):
    """The header of gzip may contain a file name of any length, which decompresses to nothing."""
    server = raw_server(
        endless(b"n" * 65_536, start=head("Content-Encoding: gzip") + b"\x1f\x8b\x08\x08" + bytes(6))
    )
    with pytest.raises(errors.ResponseTooLargeError):
        poller.send(settings(server.url), READ_VERSION)


def test_a_truncated_compressed_body_is_requested_again(poller, settings, raw_server, raw):
    packed = gzip.compress(b'{"server": "7"}')
    cut = sends(packed[:-9], start=head("Content-Encoding: gzip", f"Content-Length: {len(packed) - 9}"))
    server = raw_server(cut, raw.reply(b'{"server": "7"}'))
    assert poller.send(settings(server.url), READ_VERSION).server == "7"


def test_data_after_the_end_of_a_compressed_body_is_refused(poller, settings, raw_server):
    body = gzip.compress(b'{"server": "7"}') + gzip.compress(b"more")
    server = raw_server(sends(body, start=head("Content-Encoding: gzip")))
    with pytest.raises(errors.ProtocolError, match="data follows the end"):
        poller.send(settings(server.url), READ_VERSION)


@pytest.mark.long
@pytest.mark.parametrize("status", ["500 No", "302 There"])
def test_of_an_error_only_the_beginning_is_read(poller, settings, raw_server, status):
    for server in (raw_server(endless(start=head(status=status))), raw_server(a_bomb(status=status))):
        with pytest.raises(errors.PlatformError) as caught:
            poller.send(settings(server.url, retry_budget=0.0), READ_VERSION)
        assert caught.value.status == int(status[:3])


def test_a_redirect_leads_to_the_same_bound(poller, settings, raw_server, raw):
    there = raw.reply(status="307 There", headers=["Location: /elsewhere"])
    with pytest.raises(errors.ResponseTooLargeError):
        poller.send(settings(raw_server(there, endless()).url), READ_VERSION)


def test_work_whose_response_is_too_large_may_have_started(driver, settings, raw_server):
    with pytest.raises(errors.ResponseTooLargeError, match="it may run and bill") as caught:
        driver.send(settings(raw_server(endless()).url), START)
    assert caught.value.may_have_started is True


def test_results_may_be_as_large_as_the_connection_allows(driver, settings, raw_server, raw):
    body = json.dumps({"outputs": ["x" * 3 * MB], "finish_reason": ["stop"]}).encode()
    server = raw_server(raw.reply(body))
    assert driver.send(settings(server.url), RESULT).outputs == ["x" * 3 * MB]
    with pytest.raises(
        errors.ResponseTooLargeError, match=r"max_result_mb of the connection.*more than 2\.5 MB"
    ):
        driver.send(settings(server.url, max_result_mb=2.5), RESULT)


def test_a_download_has_a_bound_too(driver, settings, raw_server):
    to = io.BytesIO()
    with pytest.raises(errors.ResponseTooLargeError, match=r"^Allow more with max_bytes.*more than 2 MB"):
        driver._run(settings(raw_server(endless()).url), None, [("download", DOWNLOAD, to, 2 * MB)])
    assert len(to.getvalue()) <= 2 * MB


def test_headers_without_an_end_are_an_error(poller, settings, raw_server):
    server = raw_server(endless(b"X-Filler: " + b"x" * 1000 + b"\r\n", start=b"HTTP/1.1 200 OK\r\n"))
    with pytest.raises(errors.PlatformError):
        poller.send(settings(server.url, retry_budget=0.0), READ_VERSION)


SLOW = {
    "a body": endless(b" ", pause=0.03),
    "headers": endless(b"X: y\r\n", start=b"HTTP/1.1 200 OK\r\n", pause=0.03),
    "hints": endless(
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        start=b"HTTP/1.1 103 Early Hints\r\n\r\n",
        pause=0.001,
    ),
    "a compressed body": endless(
        b"\0", start=head("Content-Encoding: gzip") + b"\x1f\x8b\x08\x08" + bytes(6) + b"n", pause=0.03
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("what", SLOW)
def test_what_trickles_is_a_timeout(poller, settings, raw_server, what):
    quick = settings(raw_server(SLOW[what]).url, read_timeout=0.2, connect_timeout=0.2, retry_budget=0.0)
    began = time.monotonic()
    with pytest.raises(errors.PlatformError):
        poller.send(quick, replace(READ_VERSION, max_bytes=2000))
    assert time.monotonic() - began < 3


def gaps_of(settings, call, bound):
    async def run():
        async with AsyncClient(settings, fast=True) as client:
            answers = asyncio.gather(client.send(call), return_exceptions=True)
            return await with_gaps(answers, time.process_time)

    (found,), gaps = quietest(lambda: asyncio.run(run()), bound)
    return found, max(gaps)


ROWS = 20_000
LARGE = {
    "a batch": (
        PROGRESS,
        lambda: {"outputs": ["word " * 80] * ROWS, "finish_reason": ["stop"] * ROWS},
        lambda found: (found.done, found.total) == (ROWS, ROWS),
    ),
    "vectors": (
        batches.embeddings_progress("b1"),
        lambda: {"embedding": [[0.123456789] * 384] * 3000},
        lambda found: found == 3000,
    ),
    "a list": (
        LIST,
        lambda: [{"job_id": n, "status": "COMPLETED", "history": "[]" * 50} for n in range(50_000)],
        lambda found: found.found == ["1"],
    ),
}


@cache
def large_body(what, *, packed):
    if packed:
        return gzip.compress(large_body(what, packed=False), 1)
    _, content_of, _ = LARGE[what]
    body = json.dumps(content_of()).encode()
    assert len(body) > 7 * MB
    return body


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("packed", [False, True])
def test_a_large_response_does_not_block_the_event_loop(settings, raw_server, raw, what, packed):
    call, _, right = LARGE[what]
    content = large_body(what, packed=packed)
    server = raw_server(raw.reply(content, headers=["Content-Encoding: gzip"] if packed else []))
    found, longest = gaps_of(settings(server.url, max_in_memory=4 * MB), call, bound=0.1)
    assert right(found), found
    assert longest < 0.1


CHILD = """
import asyncio, resource, sys
from airflow_provider_lamini.api.client import AsyncClient, Client
from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import batches, classifiers, memory_rag, training, training_list, version

url, kind = sys.argv[1:]
settings = ClientSettings(base_url=url, key="k", retry_budget=0, max_in_memory=4_000_000 if kind == "poll" else None)
calls = [
    version.version(), training.job("1"), memory_rag.job("1"), classifiers.status("1"),
    batches.completions_progress("1"), batches.embeddings_progress("1"),
    training_list.list_all({"1"}, lambda job: job.job_id),
]

async def poll():
    async with AsyncClient(settings, fast=True) as client:
        for call in calls:
            try:
                print(type(await client.send(call)).__name__)
            except PlatformError as error:
                print(type(error).__name__)

def block():
    with Client(settings) as client:
        for call in calls[:4]:
            try:
                print(type(client.send(call)).__name__)
            except PlatformError as error:
                print(type(error).__name__)

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + MORE, used + MORE))
asyncio.run(poll()) if kind == "poll" else block()
"""

FLOODS = {
    "a bomb": a_bomb,
    "zeros": lambda: endless(b"0" * 65_536),
    "brackets": lambda: endless(b"[" * 65_536, start=head() + b'{"outputs":'),
    "numbers": lambda: endless(b"1," * 32_768, start=head() + b"["),
    "an error": lambda: endless(start=head(status="500 No")),
}


@pytest.mark.parametrize("kind", ["poll", "block"])
@pytest.mark.parametrize("what", FLOODS)
@pytest.mark.faults
def test_no_flood_fills_the_memory(raw_server, kind, what):
    """The child may take no more than 64 MiB of address space beyond what it has when it starts, threads included."""
    code = CHILD.replace("MORE", str(64 << 20))
    child = subprocess.run(
        [sys.executable, "-c", code, raw_server(FLOODS[what]()).url, kind],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "MALLOC_ARENA_MAX": "1"},
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert len(child.stdout.split()) == (7 if kind == "poll" else 4)
    assert set(child.stdout.split()) <= {
        "ResponseTooLargeError",
        "ProtocolError",
        "UnavailableError",
    }
