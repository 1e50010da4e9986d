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
from airflow_provider_lamini.hooks.connection import opened
from airflow_provider_lamini.platforms.lamini.api import models

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings

PROBE_SECONDS = 10.0
"""How long a probe takes at most."""


def probe(settings: ClientSettings, seconds: float = PROBE_SECONDS) -> tuple[bool, str]:
    """List the platform's models once, without a retry.

    It runs in a thread of its own, because the caller's may have an event loop running already.

    :param settings: how to reach the platform
    :param seconds: time to wait at most
    :return: whether it answered as it should, and one sentence about it, without any secret
    :raises InvalidConnectionError: where the settings ask for files or packages that are not there
    """
    once = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, seconds),
        read_timeout=min(settings.read_timeout, seconds),
        retry_budget=0,
        model_loading_budget=0,
    )
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_run, once, seconds).result()


def _run(settings: ClientSettings, seconds: float) -> tuple[bool, str]:
    # Not asyncio.run: it would wait for a name look-up that hangs, long after the probe's time.
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(_ask(settings, seconds))


async def _ask(settings: ClientSettings, seconds: float) -> tuple[bool, str]:
    url = settings.base_url
    late = (
        f"{url} gave no answer within {seconds:g} s: check Host, Port, and firewalls or proxies in between."
    )
    try:
        async with asyncio.timeout(seconds), opened(AsyncClient, settings, "") as client:
            found = await client.send(models.list_downloaded())
    except (TimeoutError, PlatformTimeoutError):
        return False, late
    except AuthenticationError as error:
        return False, f"{url} answers, but refuses the key ({error.status}): check the password field."
    except NotFoundError:
        return False, f"{url} answers, but has no Lamini API there (404): check Host and its path prefix."
    except ProtocolError as error:
        return (
            False,
            f"{url} does not answer like a Lamini platform ({error.detail}): check Host and its path.",
        )
    except PlatformError as error:
        return False, str(error)
    return True, f"{url} answers and accepts the key; models downloaded: {len(found)}."
