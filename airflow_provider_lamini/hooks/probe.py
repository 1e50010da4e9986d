"""Whether a platform answers and accepts the key, in one sentence for the connection form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    ProtocolError,
)
from airflow_provider_lamini.hooks.single_request import send_once

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
