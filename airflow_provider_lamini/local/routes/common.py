"""What the endpoints share: the platform behind them, and waiting for work that somebody waits for."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import Depends, Request
from starlette.responses import Response

from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import PlatformError, status_of
from airflow_provider_lamini.local.jobs.pool import Flow, WorkPool
from airflow_provider_lamini.local.platform import Platform

T = TypeVar("T")
R = TypeVar("R")

CLIENT_CHECK: Final = 1.0
"""Seconds between two looks at whether the client still waits."""


def platform_of(request: Request) -> Platform:
    """The platform that a request reached."""
    platform: Platform = request.app.state.platform
    return platform


PlatformOf = Annotated[Platform, Depends(platform_of)]


def as_answer(value: object) -> Response:
    """A JSON answer; unlike the framework's own it is quick with many numbers."""
    return raw_answer(msgspec.json.encode(value))


def raw_answer(body: bytes) -> Response:
    """An answer that is JSON text already."""
    return Response(body, media_type="application/json")


async def work_on(
    items: Sequence[T], do: Callable[[T], R], pool: WorkPool, request: Request, name: str = "Prompt"
) -> list[R]:
    """Do something with each item, in a pool's workers, while a client waits.

    :param items: the items
    :param do: what to do with one
    :param pool: whose workers do it
    :param request: the client's request; nothing more is begun once the client has gone
    :param name: what an item is called in an error
    :returns: the results, in order
    :raises PlatformError: it failed for one item; its message names the item where there are several
    """
    results: dict[int, R] = {}

    def unit(place: int, item: T) -> Callable[[], None]:
        def run() -> None:
            try:
                results[place] = do(item)
            except (EngineError, PlatformError) as error:
                said = f"{name} {place}: {error}" if len(items) > 1 else str(error)
                raise PlatformError(status_of(error), said) from None

        return run

    units: Iterator[Callable[[], None]] = (unit(place, item) for place, item in enumerate(items))
    flow = Flow(units, interactive=True)
    pool.add(flow)
    finished = asyncio.wrap_future(flow.finished)
    while not finished.done():
        await asyncio.wait({finished}, timeout=CLIENT_CHECK)
        if not finished.done() and await request.is_disconnected():
            flow.cancel()
    finished.result()
    if len(results) < len(items):
        raise PlatformError(500, "The client went away.")
    return [results[place] for place in range(len(items))]
