"""The transport of the extra ``fast``: for looks only, and only where no proxy is in the way."""

from __future__ import annotations

import asyncio
import importlib.util

import httpx
import pytest

from airflow_provider_lamini.api.client import AsyncClient, tls_context
from airflow_provider_lamini.api.errors import JobNotFoundError, UnavailableError
from airflow_provider_lamini.api.fast import fast_transport
from airflow_provider_lamini.api.lamini import batches
from airflow_provider_lamini.api.settings import ClientSettings
from tests.support.processes import free_port

IS_INSTALLED = importlib.util.find_spec("httpx_aiohttp") is not None


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def transport(**settings):
    asked = ClientSettings(base_url="http://127.0.0.1:1", key="k", **settings)
    return fast_transport(asked, tls_context(asked), httpx.Limits())


def test_it_is_there_exactly_where_the_extra_is_installed():
    assert (transport() is not None) == IS_INSTALLED


def test_proxies_are_left_to_httpx(monkeypatch):
    assert transport(proxy="http://127.0.0.1:2") is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:2")
    assert transport() is None


async def look(url):
    settings = ClientSettings(base_url=url, key="k", retry_budget=0)
    async with AsyncClient(settings, only_looks=True) as client:
        await client.send(batches.completions_progress("b1"))


def test_nobody_there_is_a_passing_error():
    with pytest.raises(UnavailableError, match="the connection was refused"):
        asyncio.run(look(f"http://127.0.0.1:{free_port()}"))


async def hang_up(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def test_a_connection_that_is_closed_on_a_request_was_lost():
    async def lose():
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            await look(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    with pytest.raises(UnavailableError, match="was lost before"):
        asyncio.run(lose())


def test_a_host_without_a_name_is_told_as_such():
    with pytest.raises(UnavailableError, match="host name is not known"):
        asyncio.run(look("http://no-such-host.invalid"))


async def one_answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    body = b'{"detail": "no such job"}'
    writer.write(
        b"HTTP/1.1 498 x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    writer.write(body)
    await writer.drain()
    writer.close()


def test_a_refusal_is_the_same_error_as_elsewhere():
    async def look():
        server = await asyncio.start_server(one_answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = ClientSettings(base_url=f"http://127.0.0.1:{port}", key="k", retry_budget=0)
        async with server, AsyncClient(settings, only_looks=True) as client:
            await client.send(batches.completions_progress("b1"))

    with pytest.raises(JobNotFoundError, match="no such job"):
        asyncio.run(look())
