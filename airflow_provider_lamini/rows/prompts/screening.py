"""Which rows can be sent: each row either has a prompt, or has failed before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import BadRowError, MissingColumnError
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.texts import any_blank, any_conversation, conversation_problem, is_blank
from airflow_provider_lamini.wording import counted, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.values import Row


class Screened(NamedTuple):
    """The prompts of some rows.

    :param prompts: one per row; empty for a row that cannot be sent
    :param failures: why rows cannot be sent, by offset
    """

    prompts: list[str]
    failures: dict[int, RowFailure]


def screen(
    rows: Sequence[Row],
    unreadable: Mapping[int, RowFailure],
    prompt: PromptTemplate,
    max_prompt_chars: int | None = None,
) -> Screened:
    """Make the prompts of rows, and find the rows without one.

    A row has no prompt if one of the prompt's columns has no value, or if all of them are blank.

    :param rows: the rows
    :param unreadable: rows that could not be read, by offset
    :param prompt: makes the prompt of a row
    :param max_prompt_chars: maximum length of a prompt in characters
    """
    if not unreadable and _all_texts(rows, prompt):
        try:
            prompts = prompt.render_all(rows)
        except (MissingColumnError, BadRowError):
            pass
        else:
            lengths = [] if max_prompt_chars is None else prompt.lengths(prompts)
            if max_prompt_chars is None or max(lengths, default=0) <= max_prompt_chars:
                return Screened(prompts, {})
    texts, failures = [], dict(unreadable)
    for offset, row in enumerate(rows):
        text, failure = ("", unreadable[offset]) if offset in unreadable else _prompt(row, prompt)
        if failure is None and max_prompt_chars is not None:
            failure = _too_long(prompt.lengths([text])[0], max_prompt_chars)
        if failure is not None:
            text, failures[offset] = "", failure
        texts.append(text)
    return Screened(texts, failures)


def _all_texts(rows: Sequence[Row], prompt: PromptTemplate) -> bool:
    """Whether no row lacks a prompt because its columns are blank, or has a conversation instead of a text."""
    values = column_of(rows, prompt.text_columns[0])
    may_be = prompt.is_one_value and not prompt.takes_conversations
    return not (may_be and any_conversation(values)) and not any_blank(values)


def _too_long(length: int, limit: int) -> RowFailure | None:
    if length <= limit:
        return None
    text = f"the prompt has {counted(length, 'character')}, and max_prompt_chars allows {limit}"
    return RowFailure(FailureReason.PROMPT_TOO_LONG, text)


def _prompt(row: Row, prompt: PromptTemplate) -> tuple[str, RowFailure | None]:
    values = [row.get(column) for column in prompt.columns]
    if None in values:
        column = short_name(prompt.columns[values.index(None)])
        return "", _no_prompt(f"the row has no value in the column {column!r}, which the prompt needs")
    failure = why_no_text(row, prompt)
    if failure is not None:
        return "", failure
    try:
        return prompt.render(row), None
    except BadRowError as error:
        return "", RowFailure(FailureReason(error.reason), str(error))


def why_no_text(row: Row, prompt: PromptTemplate) -> RowFailure | None:
    """Why a row makes no text that can be sent: it would be blank, or the JSON text of a conversation; ``None`` if it does.

    :param row: a row with a value in each column that the prompt needs
    :param prompt: makes the text
    """
    names = ", ".join(map(short_name, prompt.text_columns))
    if makes_blank(row, prompt):
        return _no_prompt(f"the prompt would be empty: {names} of the row is blank")
    if prompt.is_one_value and not prompt.takes_conversations:
        remedy = f"Pass messages={names!r} with endpoint='chat'"
        problem = conversation_problem(row.get(prompt.text_columns[0]), prompt.text_columns[0], remedy)
        if problem is not None:
            return RowFailure(FailureReason.BAD_ROW, problem)
    return None


def makes_blank(row: Row, prompt: PromptTemplate) -> bool:
    """Whether all columns that make a prompt are blank in a row.

    :param row: the row
    :param prompt: makes the prompt
    """
    return all(is_blank(row.get(column)) for column in prompt.text_columns)


def _no_prompt(text: str) -> RowFailure:
    return RowFailure(FailureReason.NO_PROMPT, text)
