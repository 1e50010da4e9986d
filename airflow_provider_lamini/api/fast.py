"""A cheaper way to send requests from an event loop, where the extra ``fast`` is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING
from urllib.request import getproxies

if TYPE_CHECKING:
    import ssl

    import httpx

    from airflow_provider_lamini.api.settings import ClientSettings


def fast_transport(
    settings: ClientSettings, tls: ssl.SSLContext, limits: httpx.Limits
) -> httpx.AsyncBaseTransport | None:
    """Requests over aiohttp, which reads and writes HTTP in C; for an `httpx.AsyncClient`.

    Only for what may be repeated: its errors do not tell for sure whether a request had reached the platform. Proxies
    are left to httpx, which knows all the ways in which they are set.

    :param settings: how to reach the platform
    :param tls: how certificates are checked
    :param limits: of connections
    :return: the transport; ``None`` where the extra is not installed, or a proxy is set
    """
    if settings.proxy or getproxies() or importlib.util.find_spec("httpx_aiohttp") is None:
        return None
    from airflow_provider_lamini.api.over_aiohttp import OverAiohttp

    return OverAiohttp(verify=tls, limits=limits)
