"""A few requests, sent at once and waited for. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from airflow_provider_lamini.rows.inline import check_rows
from airflow_provider_lamini.rows.source import is_path

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.operators.base import Log
    from airflow_provider_lamini.operators.endpoints import RowResult
    from airflow_provider_lamini.rows.batch import Row

T = TypeVar("T")

_NAMED = 3
"""Failed prompts that a message names at most."""


def send_all(settings: ClientSettings, calls: Sequence[Call[T]], *, at_once: int, log: Log) -> list[T]:
    """Send some calls, and wait until all are answered.

    :param settings: how to reach the platform
    :param calls: the calls
    :param at_once: how many are under way at once
    :param log: the task's log
    :return: the answers, in the order of the calls
    :raises PlatformError: for the first that failed; the others are not waited for
    """
    return asyncio.run(_send_all(settings, calls, at_once, log))


async def _send_all(settings: ClientSettings, calls: Sequence[Call[T]], at_once: int, log: Log) -> list[T]:
    slots = asyncio.Semaphore(at_once)

    async def send(client: AsyncClient, number: int) -> T:
        async with slots:
            try:
                return await client.send(calls[number])
            except PlatformError:
                log.warning("Request %d of %d failed.", number + 1, len(calls))
                raise

    async with AsyncClient(replace(settings, max_connections=at_once)) as client:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(client, number)) for number in range(len(calls))]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
    return [task.result() for task in tasks]


def checked(rows: list[RowResult]) -> list[RowResult]:
    """The same outcomes, if none of them is a failure.

    :param rows: the outcomes
    :raises AnswerError: where one is; it names the first by number
    """
    failed = [f"{number}: {row.error}" for number, row in enumerate(rows) if row.error is not None]
    if failed:
        more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise AnswerError(
            f"{len(failed)} of {len(rows)} prompts have no usable answer (counted from 0): "
            f"{'; '.join(failed[:_NAMED])}{more}. A retry asks for all of them again."
        )
    return rows


def inline_rows(given: object, most: int) -> list[Row]:
    """The rows of an input that is answered without an output folder.

    :param given: one text, a list of texts or a list of rows
    :param most: how many there may be
    :raises InvalidArgumentError: for a path, for too many, or for none
    :raises RowError: for a row that cannot be used
    """
    if isinstance(given, str):
        if not given.strip():
            raise InvalidArgumentError("input is an empty text.")
        if not any(map(str.isspace, given)) and is_path(given):
            raise InvalidArgumentError("input is a path: give output, too, the folder for the results.")
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray):
        raise InvalidArgumentError(
            f"input must be a text, a list of texts, or a list of rows, not {type(given).__name__}."
        )
    if len(given) > most:
        raise InvalidArgumentError(
            f"input has {len(given)} rows, and without output there may be {most}: the results would be too large "
            "for an XCom. Give output, the folder for the results."
        )
    return check_rows(given)
