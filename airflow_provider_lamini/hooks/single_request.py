"""One request while a person waits for its response: no retries, and a time limit for everything."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.hooks.connection import open_client

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings

T = TypeVar("T")


def send_once(settings: ClientSettings, call: Call[T], seconds: float, conn_id: str = "") -> T:
    """Send a request once, on an event loop of its own. The calling thread must not run one already.

    :param settings: how to reach the platform; its retry budgets are not used
    :param call: the request
    :param seconds: maximum time to wait
    :param conn_id: the connection, for messages
    :raises TimeoutError: if there is no response in time
    :raises PlatformError: if the platform fails or refuses
    :raises InvalidConnectionError: if the settings need files or packages that are missing
    """
    once = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, seconds),
        read_timeout=min(settings.read_timeout, seconds),
        retry_budget=0,
        model_loading_budget=0,
    )
    # Not asyncio.run: it would wait for a DNS lookup that hangs, long after the timeout.
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(_send(once, call, seconds, conn_id))


async def _send(settings: ClientSettings, call: Call[T], seconds: float, conn_id: str) -> T:
    async with asyncio.timeout(seconds), open_client(AsyncClient, settings, conn_id) as client:
        return await client.send(call)
