"""One request while a person waits for its response, such as a connection's test: no retries, and a time limit for everything."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    ProtocolError,
)
from airflow_provider_lamini.hooks.connection import open_client
from airflow_provider_lamini.hooks.telemetry import report_requests

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.base import Platform

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
    try:
        with closing(asyncio.new_event_loop()) as loop:
            return loop.run_until_complete(_send(once, call, seconds, conn_id))
    finally:
        report_requests()


async def _send(settings: ClientSettings, call: Call[T], seconds: float, conn_id: str) -> T:
    async with asyncio.timeout(seconds), open_client(AsyncClient, settings, conn_id) as client:
        return await client.send(call)


PROBE_SECONDS = 10.0
"""Timeout of a probe."""


def probe(platform: Platform, settings: ClientSettings, seconds: float = PROBE_SECONDS) -> tuple[bool, str]:
    """Send the platform's probe once, without retries.

    It runs in a thread of its own, because the caller's may already run an event loop.

    :param platform: the platform
    :param settings: how to reach it
    :param seconds: maximum time to wait
    :return: whether address and key work, and one sentence about it, without any secret
    :raises InvalidConnectionError: if the settings need files or packages that are missing
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_probe, platform, settings, seconds).result()


def _probe(platform: Platform, settings: ClientSettings, seconds: float) -> tuple[bool, str]:
    url = settings.base_url
    late = f"{url} did not respond within {seconds:g} s: check Platform URL (host), Port, and firewalls or proxies in between."
    try:
        found = send_once(settings, platform.probe.call, seconds)
    except (TimeoutError, PlatformTimeoutError):
        return False, late
    except AuthenticationError as error:
        return False, f"{url} responds, but refuses the key ({error.status}): check API key (password)."
    except NotFoundError:
        return (
            False,
            f"{url} responds, but has no {platform.title} API there (404): check Platform URL (host), with its path, and Port.",
        )
    except ProtocolError as error:
        return (
            False,
            f"{url} does not respond like a {platform.title} platform ({error.detail}): check Platform URL (host) and Port.",
        )
    except PlatformError as error:
        return False, str(error)
    return True, f"{url} responds and accepts the key; {platform.probe.describe(found)}."
