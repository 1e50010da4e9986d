"""One watch per connection and event loop, shared by all triggers that run there."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_lamini.hooks.connection import aread_connection
from airflow_provider_lamini.hooks.telemetry import report_requests
from airflow_provider_lamini.jobs.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.result_cache import ResultCache
    from airflow_provider_lamini.platforms.base import Platform


@asynccontextmanager
async def private_watch(hook: PlatformHook, cache: ResultCache) -> AsyncIterator[Watch]:
    """Open a watch for one task that waits in its own process.

    :param hook: the task's hook, which nothing else uses meanwhile; its connection is read again if its key is refused
    :param cache: receives the status responses that contain results
    """
    lookups = itertools.count()

    async def lookup() -> ClientSettings:
        if next(lookups):
            await asyncio.to_thread(hook.forget_connection)
        return await asyncio.to_thread(hook.settings)

    watch = Watch(lookup, cache)
    try:
        yield watch
    finally:
        report_requests()
        await watch.close()


@dataclass(slots=True)
class _Shared:
    watch: Watch
    users: int = 0


_WATCHES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_watch(platform: Platform, conn_id: str) -> AsyncIterator[Watch]:
    """Open or join the watch on the platform behind a connection; the last user closes it.

    :param platform: the platform
    :param conn_id: the connection; it is looked up once for all users
    """

    async def lookup() -> ClientSettings:
        return (await aread_connection(conn_id, platform)).settings

    watches = _WATCHES.setdefault(asyncio.get_running_loop(), {})
    key = (platform.name, conn_id)
    shared = watches.get(key)
    if shared is None:
        shared = watches[key] = _Shared(Watch(lookup))
    shared.users += 1
    try:
        yield shared.watch
    finally:
        report_requests()
        shared.users -= 1
        if shared.users == 0:
            # Removed first: a user who comes while it closes opens a new one.
            del watches[key]
            await shared.watch.close()
