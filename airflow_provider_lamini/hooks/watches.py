"""One watch per connection and event loop, shared by all triggers that run there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_lamini.hooks.lamini import LaminiHook
from airflow_provider_lamini.jobs.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.jobs.answers import Answers


@asynccontextmanager
async def private_watch(settings: ClientSettings, answers: Answers) -> AsyncIterator[Watch]:
    """A watch for one task that waits in its own process.

    :param settings: the platform, as read from the connection when the task began
    :param answers: is left the answers that bring results
    """

    async def lookup() -> ClientSettings:
        return settings

    watch = Watch(lookup, answers)
    try:
        yield watch
    finally:
        await watch.close()


@dataclass(slots=True)
class _Shared:
    watch: Watch
    users: int = 0


_WATCHES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_watch(conn_id: str) -> AsyncIterator[Watch]:
    """The watch on the platform behind a connection; the last user to leave closes it.

    :param conn_id: the connection's id; it is looked up once for all users
    """
    watches = _WATCHES.setdefault(asyncio.get_running_loop(), {})
    shared = watches.get(conn_id)
    if shared is None:
        shared = watches[conn_id] = _Shared(Watch(LaminiHook(conn_id).asettings))
    shared.users += 1
    try:
        yield shared.watch
    finally:
        shared.users -= 1
        if shared.users == 0:
            # Out of the table first: whoever comes while it closes gets a new one.
            del watches[conn_id]
            await shared.watch.close()
