"""Answering a few prompts within a task."""

from __future__ import annotations

import ast
import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from airflow_provider_lamini.hooks.telemetry import DIRECT, report_requests, report_rows
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import BadRowError
from airflow_provider_lamini.rows.limits import FailureLimit
from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.rows.sources.forms import is_path
from airflow_provider_lamini.rows.sources.function import FunctionInput
from airflow_provider_lamini.rows.sources.source import ListSource, open_source
from airflow_provider_lamini.rows.sources.tables import is_table
from airflow_provider_lamini.rows.texts import is_blank, is_conversation
from airflow_provider_lamini.rows.tokens import sum_tokens
from airflow_provider_lamini.runs.arguments import plain_name, text, valid_unicode
from airflow_provider_lamini.runs.event_loop import run_in_thread
from airflow_provider_lamini.wording import a_type, counted

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.rows.tokens import TokenUsage
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log

T = TypeVar("T")

NONE_MAY_FAIL = FailureLimit(count=0)

_MAX_NAMED = 3
"""Maximum number of failed prompts that a message names."""


def send_all(settings: ClientSettings, calls: Sequence[Call[T]], *, at_once: int, log: Log) -> list[T]:
    """Send some calls concurrently, and wait for all answers.

    :param settings: how to reach the platform
    :param calls: the calls
    :param at_once: maximum number of concurrent requests
    :param log: the task's log
    :return: the answers, in the order of the calls
    :raises PlatformError: as soon as one call has failed; the others are cancelled
    """
    try:
        return run_in_thread(_send_all(settings, calls, at_once, log))
    finally:
        report_requests()


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
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
    return [task.result() for task in tasks]


def report_answers(
    platform: str, rows: Sequence[RowResult], usages: Sequence[TokenUsage | None] | None = None
) -> Counts:
    """Count the answers of prompts, and report them to Airflow's metrics.

    :param platform: the platform's name
    :param rows: the answers
    :param usages: the tokens of each answer, if they are not in ``rows``
    """
    failed = sum(row.failure is not None for row in rows)
    known = [usage for row in rows for usage in row.usages] if usages is None else usages
    counts = Counts(rows=len(rows), ok=len(rows) - failed, failed=failed, sums=sum_tokens(known))
    report_rows(platform, DIRECT, None, counts)
    return counts


def require_outputs(rows: list[RowResult], limit: FailureLimit = NONE_MAY_FAIL) -> list[RowResult]:
    """Check that enough prompts have an answer.

    :param rows: the answers
    :param limit: how many may have failed
    :return: the same
    :raises AnswerError: if more have none; it names the first ones by number
    """
    failed = [f"{number}: {row.failure.text}" for number, row in enumerate(rows) if row.failure is not None]
    if limit.exceeded(len(failed), len(rows)):
        more = f"; and {len(failed) - _MAX_NAMED} more" if len(failed) > _MAX_NAMED else ""
        raise AnswerError(
            f"{len(failed)} of {counted(len(rows), 'prompt')} got no usable answer (counted from 0): "
            f"{'; '.join(failed[:_MAX_NAMED])}{more}. A retry sends all of them again."
        )
    return rows


def failures_value(rows: Sequence[RowResult]) -> dict[str, object]:
    """What the XCom value says about failed rows.

    :param rows: the answers
    :return: ``errors``, one per row, with ``None`` for a row that has not failed; nothing if no row has failed
    """
    errors = [row.failure and {"reason": row.failure.reason.value, "error": row.failure.text} for row in rows]
    return {"errors": errors} if any(errors) else {}


def output_value(rows: Sequence[RowResult], *, single: bool) -> dict[str, object]:
    """Build the XCom value.

    :param rows: the answers
    :param single: whether the task has one prompt, not a list
    :return: ``output`` and ``finish_reason``, or lists of them; ``errors`` if rows have failed
    """
    if single:
        return {
            "output": rows[0].output,
            "finish_reason": rows[0].finish_reason,
            **failures_value(rows),
        }
    return {
        "outputs": [row.output for row in rows],
        "finish_reasons": [row.finish_reason for row in rows],
        **failures_value(rows),
    }


def total_tokens(usages: Sequence[TokenUsage | None]) -> dict[str, int] | None:
    """The tokens of all answers together.

    :param usages: the tokens of each answer; ``None`` if the platform did not count them
    :return: the sums; ``None`` unless the platform counted all
    """
    if None in usages:
        return None
    return {name: int(count) for name, count in sum_tokens(usages).items()} or None


def parse_texts(name: str, value: object, maximum: int) -> tuple[list[str], bool]:
    """Validate a text, or a list of texts.

    :param name: the argument, for messages
    :param value: the argument's value
    :param maximum: how many texts a list may have
    :return: the texts, and whether the value was a single text
    :raises InvalidArgumentError: if it is anything else, or a text is empty, or that of a list
    """
    single = is_single(value)
    items = [_not_a_list(name, value)] if single else _items(name, value, maximum)
    labels = [name] if single else [f"{name} {number} (counted from 0)" for number in range(len(items))]
    return [text(label, _as_text(item)) for label, item in zip(labels, items, strict=True)], single


def is_single(value: object) -> bool:
    """Whether an input is a single text, not a list. ``render_template_as_native_obj`` makes a number of ``"7"``.

    :param value: the input; a function only once its rows were read
    """
    return value.single if isinstance(value, FunctionInput) else isinstance(_as_text(value), str)


def _as_text(value: object) -> object:
    """Undo the conversion of a text to a number by ``render_template_as_native_obj``."""
    return str(value) if math.isfinite(finite(value)) and not isinstance(value, str) else value


def _not_a_list(name: str, value: T) -> T:
    """What is sent as one text, unless it is the text of a list, as a template renders one.

    :raises InvalidArgumentError: if it is
    """
    if isinstance(value, str) and _is_list_text(value.strip()):
        raise InvalidArgumentError(
            f"{name} is the text of a list. If a template has rendered it, pass the upstream task's output itself, or set "
            "render_template_as_native_obj=True on the Dag. To send the text as it is, pass a list with this text."
        )
    return value


def _is_list_text(text: str) -> bool:
    """Whether a text is a list of texts, mappings or lists, as Python or JSON writes it."""
    if not (text.startswith("[") and text.endswith("]")):
        return False
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            found = parse(text)
            return bool(found) and all(isinstance(item, str | dict | list) for item in found)
    return False


def parse_conversations(
    name: str, value: object, maximum: int, *, system: object = None
) -> tuple[list[list[dict[str, str]]], bool]:
    """Validate a conversation, or a list of conversations.

    :param name: the argument, for messages
    :param value: a text, a list of messages, or a list of texts and such lists
    :param maximum: how many conversations a list may have
    :param system: the system prompt of each conversation; ``None`` for none
    :return: the conversations, each a list of messages, and whether the value was a single one
    :raises InvalidArgumentError: if it is anything else
    """
    first = [] if system is None else [{"role": "system", "content": text("system", system)}]
    single = is_single(value) or _is_conversation(value)
    items = [_not_a_list(name, value)] if single else _items(name, value, maximum)
    return [
        [*first, *_messages(name if single else f"{name} {number} (counted from 0)", item)]
        for number, item in enumerate(items)
    ], single


def _is_conversation(value: object) -> bool:
    return isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value)


def _messages(label: str, conversation: object) -> list[dict[str, str]]:
    conversation = _as_text(conversation)
    if isinstance(conversation, str) and is_conversation(conversation):
        raise InvalidArgumentError(f"{label} is the text of a conversation. Pass its list of messages.")
    if isinstance(conversation, str) and not is_blank(conversation):
        return [{"role": "user", "content": text(label, conversation)}]
    if isinstance(conversation, str) or not isinstance(conversation, Sequence) or not conversation:
        raise InvalidArgumentError(f"{label} must be a text, or a list of messages, that is not empty.")
    messages = []
    for message in conversation:
        role, content = (
            (message.get("role"), _as_text(message.get("content")))
            if isinstance(message, Mapping)
            else (0, 0)
        )
        if not isinstance(role, str) or not role or not isinstance(content, str):
            raise InvalidArgumentError(
                f"{label}: each message must be a mapping with role and content, both texts."
            )
        role, content = plain_name(f"{label}: a role", role), valid_unicode(f"{label}: a message", content)
        messages.append({"role": role, "content": content})
    return messages


def _items(name: str, value: object, maximum: int) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise InvalidArgumentError(f"{name} must be a text or a list, not {a_type(value)}.")
    if not 0 < len(value) <= maximum:
        raise InvalidArgumentError(
            f"{name} has {len(value) or 'no'} entries; 1 to {maximum} are allowed. For more, with the results on storage, "
            "use the batch inference operator."
        )
    return value


def inline_error(
    rows: Sequence[Row],
    prompt: PromptTemplate,
    failures: Mapping[int, RowFailure],
    unreadable: Mapping[int, RowFailure],
) -> RowError:
    """The error for the first row of a list that cannot be sent.

    :param rows: the rows
    :param prompt: makes the prompt of a row
    :param failures: why rows cannot be sent, by number
    :param unreadable: those of them that could not be read, whose errors say where they are
    """
    number, failure = min(failures.items())
    if number in unreadable:
        return BadRowError(failure.text)
    location = f"row {number} of the list"
    column = next((column for column in prompt.columns if rows[number].get(column) is None), None)
    if column is not None:
        return prompt.missing(location, column, rows[number])
    return BadRowError(f"{location}: {failure.text}. Correct the row, or set on_bad_row='error'.")


def inline_source(
    value: object,
    maximum: int,
    options: InputOptions,
    *,
    keep_bad: bool = False,
    limit_rows: int | None = None,
) -> ListSource:
    """The rows of an input that is answered without an output folder.

    :param value: one text, or a list of rows
    :param maximum: how many rows are allowed
    :param options: how to read a list
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param limit_rows: only the first rows count, this many; ``None`` for all
    :raises InvalidArgumentError: if it is a path or the text of a list, or has too many rows
    :raises RowError: if a row is invalid
    """
    value = _as_text(value)
    if isinstance(value, str):
        if is_blank(value):
            raise InvalidArgumentError("input is an empty text. Give a text, or a list of texts or rows.")
        if not any(map(str.isspace, value)) and is_path(value):
            raise InvalidArgumentError("Give output, the folder for the results: input is a path.")
        value = [_not_a_list("input", value)]
    elif not isinstance(value, Sequence | Mapping) and not is_table(value):
        raise InvalidArgumentError(
            f"input must be a text, a list of texts, or a list of rows, not {a_type(value)}."
        )
    source = open_source(value, options=options, keep_bad=keep_bad)
    if not isinstance(source, ListSource):
        raise InvalidArgumentError("Give output, the folder for the results: input names files.")
    rows = len(source.rows)
    if min(rows, limit_rows or rows) > maximum:
        raise InvalidArgumentError(
            f"input has {rows} rows; without output, {maximum} are allowed, because larger results do not fit into "
            "an XCom. Give output, the folder for the results."
        )
    return source
