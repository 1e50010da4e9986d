"""Whether a platform answers and accepts the key, in one sentence for the connection form."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    ProtocolError,
)
from airflow_provider_lamini.hooks.connection import open_client

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.base import Platform

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
    once = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, seconds),
        read_timeout=min(settings.read_timeout, seconds),
        retry_budget=0,
        model_loading_budget=0,
    )
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_run, platform, once, seconds).result()


def _run(platform: Platform, settings: ClientSettings, seconds: float) -> tuple[bool, str]:
    # Not asyncio.run: it would wait for a DNS lookup that hangs, long after the timeout.
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(_send(platform, settings, seconds))


async def _send(platform: Platform, settings: ClientSettings, seconds: float) -> tuple[bool, str]:
    url = settings.base_url
    late = (
        f"{url} did not respond within {seconds:g} s: check Host, Port, and firewalls or proxies in between."
    )
    try:
        async with asyncio.timeout(seconds), open_client(AsyncClient, settings, "") as client:
            found = await client.send(platform.probe.call)
    except (TimeoutError, PlatformTimeoutError):
        return False, late
    except AuthenticationError as error:
        return False, f"{url} responds, but refuses the key ({error.status}): check the password field."
    except NotFoundError:
        return (
            False,
            f"{url} responds, but has no {platform.title} API there (404): check Host and its path prefix.",
        )
    except ProtocolError as error:
        return (
            False,
            f"{url} does not respond like a {platform.title} platform ({error.detail}): check Host and its path.",
        )
    except PlatformError as error:
        return False, str(error)
    return True, f"{url} responds and accepts the key; {platform.probe.describe(found)}."
