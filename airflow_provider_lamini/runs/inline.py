"""A few requests, sent at once and waited for. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.api.output_types import check_output_type
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from airflow_provider_lamini.rows.sources.lists import check_rows
from airflow_provider_lamini.rows.sources.source import is_path
from airflow_provider_lamini.runs.arguments import finite, json_object, plain_name, text, valid_unicode
from airflow_provider_lamini.runs.event_loop import run_in_thread

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.output_types import OutputType
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.platforms.lamini.api.chat import Usage
    from airflow_provider_lamini.rows.endpoints import RowResult
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log

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
    return run_in_thread(_send_all(settings, calls, at_once, log))


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


def answers(rows: Sequence[RowResult], *, single: bool) -> dict[str, object]:
    """What a task returns of outcomes.

    :param rows: the outcomes
    :param single: whether the task was given one prompt, and no list
    :return: ``output`` and ``finish_reason``, or lists of them
    """
    if single:
        return {"output": rows[0].output, "finish_reason": rows[0].finish_reason}
    return {
        "outputs": [row.output for row in rows],
        "finish_reasons": [row.finish_reason for row in rows],
    }


def tokens(usages: Sequence[Usage | None]) -> dict[str, int] | None:
    """The tokens of all answers together; ``None`` where the platform does not tell them of each.

    :param usages: those of each answer
    """
    told = [usage for usage in usages if usage is not None]
    if not told or len(told) < len(usages):
        return None
    return {
        "prompt_tokens": sum(usage.prompt_tokens for usage in told),
        "completion_tokens": sum(usage.completion_tokens for usage in told),
        "total_tokens": sum(usage.total_tokens for usage in told),
    }


def output_type(value: object) -> OutputType | None:
    """An output type as an operator is given it.

    :param value: a mapping, the text of a JSON object, or ``None``
    :raises InvalidArgumentError: where it is none
    """
    found = json_object("output_type", value)
    if found is None:
        return None
    try:
        return check_output_type(found)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error


def texts(name: str, value: object, most: int) -> tuple[list[str], bool]:
    """One text or a few.

    :param name: the argument, for messages
    :param value: what it is
    :param most: how many texts a list may have
    :return: the texts, and whether it was one and no list
    :raises InvalidArgumentError: where it is neither, or a text is empty
    """
    single = is_single(value)
    found = [value] if single else _listed(name, value, most)
    places = [name] if single else [f"{name} {number} (counted from 0)" for number in range(len(found))]
    return [text(place, _as_text(each)) for place, each in zip(places, found, strict=True)], single


def is_single(value: object) -> bool:
    """Whether an input is one text and no list. ``render_template_as_native_obj`` makes a number of ``"7"``.

    :param value: the input
    """
    return isinstance(_as_text(value), str)


def _as_text(value: object) -> object:
    """The text that a number was before a template was rendered to native objects."""
    return str(value) if math.isfinite(finite(value)) and not isinstance(value, str) else value


def conversations(
    name: str, value: object, most: int, *, system: object = None
) -> tuple[list[list[dict[str, str]]], bool]:
    """One conversation or a few.

    :param name: the argument, for messages
    :param value: a text, a list of messages, or a list of texts and such lists
    :param most: how many a list may have
    :param system: what the model is told first in each; ``None`` for nothing
    :return: the conversations, each a list of messages, and whether it was one
    :raises InvalidArgumentError: where it is none of that
    """
    first = [] if system is None else [{"role": "system", "content": text("system", system)}]
    single = is_single(value) or _is_conversation(value)
    found = [value] if single else _listed(name, value, most)
    return [
        [*first, *_messages(name if single else f"{name} {number} (counted from 0)", talk)]
        for number, talk in enumerate(found)
    ], single


def _is_conversation(value: object) -> bool:
    return isinstance(value, Sequence) and any(isinstance(each, Mapping) for each in value)


def _messages(place: str, talk: object) -> list[dict[str, str]]:
    talk = _as_text(talk)
    if isinstance(talk, str) and talk.strip():
        return [{"role": "user", "content": text(place, talk)}]
    if isinstance(talk, str) or not isinstance(talk, Sequence) or not talk:
        raise InvalidArgumentError(f"{place} must be a text, or a list of messages, that is not empty.")
    messages = []
    for message in talk:
        role, content = (
            (message.get("role"), _as_text(message.get("content")))
            if isinstance(message, Mapping)
            else (0, 0)
        )
        if not isinstance(role, str) or not role or not isinstance(content, str):
            raise InvalidArgumentError(
                f"{place}: each message must be a mapping with role and content, both texts."
            )
        role, content = plain_name(f"{place}: a role", role), valid_unicode(f"{place}: a message", content)
        messages.append({"role": role, "content": content})
    return messages


def _listed(name: str, value: object, most: int) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise InvalidArgumentError(f"{name} must be a text or a list, not {type(value).__name__}.")
    if not 0 < len(value) <= most:
        raise InvalidArgumentError(
            f"{name} has {len(value)} entries, and there may be 1 to {most}. For more, with the results on storage, "
            "use LaminiBatchInferenceOperator."
        )
    return value


def inline_rows(given: object, most: int) -> list[Row]:
    """The rows of an input that is answered without an output folder.

    :param given: one text, a list of texts or a list of rows
    :param most: how many there may be
    :raises InvalidArgumentError: for a path, for too many, or for none
    :raises RowError: for a row that cannot be used
    """
    given = _as_text(given)
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
