"""The transport of the extra ``fast``: for polls only, and only where no proxy is in the way."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import zlib

import httpx
import pytest

from airflow_provider_lamini import __version__
from airflow_provider_lamini.api.aiohttp_transport import fast_transport
from airflow_provider_lamini.api.client import AsyncClient, tls_context
from airflow_provider_lamini.api.errors import (
    JobNotFoundError,
    NotThePlatformError,
    ProtocolError,
    UnavailableError,
)
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import batches
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.processes import free_port

IS_INSTALLED = importlib.util.find_spec("httpx_aiohttp") is not None


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def transport(**settings):
    asked = ClientSettings(dialect=LAMINI_DIALECT, base_url="http://127.0.0.1:1", key="k", **settings)
    return fast_transport(asked, tls_context(asked), httpx.Limits())


def test_it_is_used_exactly_if_the_extra_is_installed():
    assert (transport() is not None) == IS_INSTALLED


def test_httpx_handles_proxies(monkeypatch):
    assert transport(proxy="http://127.0.0.1:2") is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:2")
    assert transport() is None


async def poll(url):
    settings = ClientSettings(dialect=LAMINI_DIALECT, base_url=url, key="k", retry_budget=0)
    async with AsyncClient(settings, fast=True) as client:
        await client.send(batches.completions_progress("b1"))


def test_a_refused_connection_is_a_transient_error():
    with pytest.raises(UnavailableError, match="The connection was refused"):
        asyncio.run(poll(f"http://127.0.0.1:{free_port()}"))


async def hang_up(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def test_a_connection_that_is_closed_after_the_request_is_lost():
    async def lose():
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            await poll(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    with pytest.raises(UnavailableError, match="was lost before"):
        asyncio.run(lose())


def test_an_unknown_host_name_is_reported():
    with pytest.raises(UnavailableError, match="host name is not known"):
        asyncio.run(poll("http://no-such-host.invalid"))


async def one_answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    body = b'{"detail": "no such job"}'
    writer.write(
        b"HTTP/1.1 498 x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    writer.write(body)
    await writer.drain()
    writer.close()


def test_a_refusal_is_the_same_error_as_with_httpx():
    async def poll_once():
        server = await asyncio.start_server(one_answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = ClientSettings(
            dialect=LAMINI_DIALECT, base_url=f"http://127.0.0.1:{port}", key="k", retry_budget=0
        )
        async with server, AsyncClient(settings, fast=True) as client:
            await client.send(batches.completions_progress("b1"))

    with pytest.raises(JobNotFoundError, match="no such job"):
        asyncio.run(poll_once())


def response(body, *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def poll_results(settings, calls=1):
    """The results of so many polls with one client."""

    async def run():
        async with AsyncClient(settings, fast=True) as client:
            return [await client.send(batches.completions_progress("b 1")) for _ in range(calls)]

    return asyncio.run(run())


DONE = b'{"outputs": ["a", "b"], "finish_reason": ["stop", null]}'


def test_a_poll_has_the_same_headers_as_any_other_request(poller, settings, raw_server):
    server = raw_server(response(DONE, "Connection: close"))
    asked = settings(f"{server.url}/prefix/", headers={"X-Team": "blue"})
    poller.send(asked, batches.completions_progress("b 1"))
    request, *lines = server.requests[0][0].split("\r\n")
    head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert request == "GET /prefix/v1/batch_completions/b%201/result HTTP/1.1"
    assert head.pop("accept-encoding").startswith("gzip, deflate")
    assert head == {
        "host": server.url.removeprefix("http://"),
        "accept": "*/*",
        "connection": "keep-alive",
        "user-agent": f"airflow-provider-lamini/{__version__}",
        "lamini-version": __version__,
        "x-team": "blue",
        "authorization": "Bearer secret-key-123",
    }


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_response_is_decompressed(poller, settings, raw_server, coding, pack):
    server = raw_server(response(pack(DONE), f"Content-Encoding: {coding}", "Connection: close"))
    found = poller.send(settings(server.url), batches.completions_progress("b1"))
    assert (found.done, found.total) == (1, 2)


def test_a_response_with_a_wrong_compression_is_not_retried(poller, settings, raw_server):
    server = raw_server(response(DONE, "Content-Encoding: gzip", "Connection: close"))
    with pytest.raises(ProtocolError, match="cannot be decompressed: it is not validly compressed"):
        poller.send(settings(server.url), batches.completions_progress("b1"))
    assert len(server.requests) == 1


def test_a_response_without_a_length_ends_with_its_connection(poller, settings, raw_server):
    server = raw_server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + DONE))
    assert poller.send(settings(server.url), batches.completions_progress("b1")).total == 2


def test_a_redirect_within_the_platform_is_followed_with_the_key(poller, settings, raw_server):
    there = response(b"", "Location: /elsewhere", "Connection: close", status="307 There")
    server = raw_server(there, response(DONE, "Connection: close"))
    assert poller.send(settings(server.url), batches.completions_progress("b1")).total == 2
    (first, _), (second, _) = server.requests
    assert second.startswith("GET /elsewhere ")
    assert "bearer secret-key-123" in first.lower()
    assert "bearer secret-key-123" in second.lower()


def test_a_redirect_to_another_host_is_not_followed(poller, settings, raw_server):
    server = raw_server(response(b"", "Location: http://other.invalid/", status="302 There"))
    with pytest.raises(NotThePlatformError, match=r"it redirects to http://other\.invalid"):
        poller.send(settings(server.url), batches.completions_progress("b1"))


def test_a_web_page_is_reported_as_one(poller, settings, raw_server):
    server = raw_server(response(b"<html>", "Content-Type: text/html", "Connection: close"))
    with pytest.raises(NotThePlatformError, match="it is a web page"):
        poller.send(settings(server.url, retry_budget=0), batches.completions_progress("b1"))


def test_cookies_of_a_gateway_are_returned_to_it(poller, settings, raw_server):
    server = raw_server(response(DONE, "Set-Cookie: node=a|b; Path=/", "Connection: close"))
    poller.send(settings(server.url), *[batches.completions_progress("b1")] * 2)
    (first, _), (second, _) = server.requests
    assert "cookie:" not in first.lower()
    assert "cookie: node=a|b" in second.lower()


def test_a_warning_in_the_response_to_a_poll_is_logged(poller, settings, raw_server, caplog):
    server = raw_server(response(DONE, f"X-WARNING: old, says {poller.kind}", "Connection: close"))
    poller.send(settings(server.url), batches.completions_progress("b1"))
    assert f"warns: old, says {poller.kind}" in caplog.text


def test_polls_share_a_connection(settings, raw_server):
    def twice(connection):
        response(DONE)(connection)
        assert server._head(connection)[0] is not None
        response(DONE)(connection)

    server = raw_server(twice)
    assert [found.total for found in poll_results(settings(server.url), calls=2)] == [2, 2]
    assert len(server.requests) == 1
