"""Checks of an input before anything is sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.columns import column_kind, column_of
from airflow_provider_lamini.rows.conversation import is_conversation
from airflow_provider_lamini.rows.errors import BadRowError, MissingColumnError, OutputError, short_name
from airflow_provider_lamini.rows.run_files import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.values import Row


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What `validate_input` has found.

    :param total_rows: number of rows
    :param content_hash: hash of all rows and of their distribution over files
    :param column_kinds: type of each passthrough column
    """

    total_rows: int
    content_hash: str
    column_kinds: dict[str, ColumnKind] = field(default_factory=dict)


def needed_columns(prompt: PromptTemplate, passthrough: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns to read: those of the prompt and the passthrough columns, each once."""
    return tuple(dict.fromkeys((*prompt.columns, *prompt.optional_columns, *passthrough)))


def check_input_apart(source: Source, folder: OutputFolder) -> None:
    """Make sure that no file of the input is in the output folder, where the task's own files would become input.

    :param source: the input
    :param folder: the output folder
    :raises OutputError: if a file is, or if the input's pattern matches files in the folder
    """
    if any(str(Path(path).parent) == folder.path for path in source.paths()):
        raise OutputError(f"The output folder {folder} contains files of the input. Choose another folder.")
    if any(source.matches(f"{folder.path.rstrip('/')}/{name}") for name in EXAMPLES):
        raise OutputError(
            f"The pattern of the input matches files in the output folder {folder}. Choose another folder."
        )


def validate_input(
    source: Source,
    prompt: PromptTemplate,
    *,
    passthrough: Sequence[str] = (),
    max_prompt_chars: int | None = None,
) -> InputSummary:
    """Read the whole input once and check each row. Memory does not depend on the number of rows.

    Every row needs a value in each column of the prompt. A passthrough column may be missing in some rows; if it is
    missing in all rows, its name is wrong.

    :param source: the input
    :param prompt: makes the prompt of a row
    :param passthrough: columns to copy into the output
    :param max_prompt_chars: maximum length of a prompt in characters
    :raises MissingColumnError: for the first row without a value that the prompt needs
    :raises BadRowError: for the first row that cannot be read, or whose prompt is too long
    :raises InputError: if the input cannot be read
    """
    columns = needed_columns(prompt, passthrough)
    unseen = set(columns)
    kinds: dict[str, set[type]] = {column: set() for column in passthrough}
    # Twice as fast as other hashes on processors that support it. It need not resist forgery: whoever could forge a file
    # could as well change it.
    digest = hashlib.sha1(source.layout().encode(), usedforsecurity=False)
    total = 0
    try:
        for batch in source.batches(columns=columns, required=prompt.columns):
            total += len(batch)
            batch.check()
            for column, seen in kinds.items():
                seen.update(batch.kinds(column))
            digest.update(batch.content())
            _check_values(source, batch, prompt)
            if max_prompt_chars is not None:
                lengths = prompt.lengths(prompt.render_all(batch.rows))
                check_lengths(lengths, max_prompt_chars, batch.describe_row)
            if unseen:
                unseen -= {column for column in unseen if batch.has(column)}
    except MissingColumnError as error:
        if error.column in prompt.columns:
            raise prompt.missing(error.location, error.column, error.columns) from None
        raise
    if total and unseen:
        raise MissingColumnError.of(source.describe(), min(unseen), next(source.read()).row)
    return InputSummary(
        total, digest.hexdigest(), {column: column_kind(seen) for column, seen in kinds.items()}
    )


def check_lengths(lengths: Sequence[int], limit: int, describe_row: Callable[[int], str]) -> None:
    """Make sure that no prompt is too long.

    :param lengths: the lengths of the prompts in characters
    :param limit: maximum length in characters
    :param describe_row: describes the row of a prompt, by its offset in the list
    :raises BadRowError: for the first prompt that is too long
    """
    if max(lengths, default=0) <= limit:
        return
    offset, length = next((offset, length) for offset, length in enumerate(lengths) if length > limit)
    raise BadRowError(
        f"{describe_row(offset)}: the prompt has {length} characters, and max_prompt_chars allows {limit}. Shorten the "
        "row, leave it out, or raise max_prompt_chars."
    )


def refuse_conversations(
    rows: Sequence[Row], prompt: PromptTemplate, describe_row: Callable[[int], str]
) -> None:
    """Make sure that no conversation becomes the JSON text of a prompt.

    :param rows: rows of the input
    :param prompt: makes the prompt of a row
    :param describe_row: describes a row, by its offset in the list
    :raises BadRowError: for the first row whose whole prompt would be a conversation
    """
    column = prompt.columns[0]
    for offset, value in enumerate(column_of(rows, column) if prompt.bare else ()):
        if is_conversation(value):
            name = short_name(column)
            raise BadRowError(
                f"{describe_row(offset)}: the column {name!r} has a conversation. Pass messages={name!r} with "
                "endpoint='chat', or write a template around it to send its JSON text, such as 'Summarize: {...}'."
            )


def _check_rendering(batch: Batch, prompt: PromptTemplate) -> None:
    for offset, row in enumerate(batch.rows):
        try:
            prompt.render(row)
        except BadRowError as error:
            raise BadRowError(f"{batch.describe_row(offset)}: {error}. Nothing was sent.") from None


def _check_values(source: Source, batch: Batch, prompt: PromptTemplate) -> None:
    for column in () if batch.checked else prompt.columns:
        offset = batch.missing(column)
        if offset is not None:
            # The batch may have the needed columns only; the message should list all of them.
            complete_row = next(islice(source.read(batch.start), offset, None)).row
            raise prompt.missing(batch.describe_row(offset), column, complete_row)
    if prompt.bare and list in batch.kinds(prompt.columns[0]):
        refuse_conversations(batch.rows, prompt, batch.describe_row)
    if prompt.may_refuse:
        _check_rendering(batch, prompt)
