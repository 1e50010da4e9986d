"""One pass over an input before anything is sent: is every row fit to be sent, and how many are there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.columns import _Large
from airflow_provider_lamini.rows.errors import BadRowError, MissingColumnError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.sources.source import Source


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What one pass over the input found.

    :param total: number of rows
    :param content: a hash of all rows and of how they lie in files
    :param kinds: what is in each column that is passed through
    """

    total: int
    content: str
    kinds: dict[str, ColumnKind] = field(default_factory=dict)


def needed_columns(prompt: PromptTemplate, passthrough: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns to read: those of the prompt and those that are passed through, each once."""
    return tuple(dict.fromkeys((*prompt.columns, *passthrough)))


def validate_input(
    source: Source,
    prompt: PromptTemplate,
    *,
    passthrough: Sequence[str] = (),
    max_prompt_chars: int | None = None,
) -> InputSummary:
    """Read the whole input once and check each row. Memory does not depend on the number of rows.

    A column of the prompt must have a value in every row. A column that is passed through may lack one in
    some rows, but not in all of them: then its name is wrong.

    :param source: the input
    :param prompt: how a row becomes a prompt
    :param passthrough: columns that go into the output beside the answer
    :param max_prompt_chars: characters of the longest prompt that is allowed
    :raises MissingColumnError: for the first row without a value that is needed
    :raises BadRowError: for the first row that cannot be read, or whose prompt is too long
    :raises InputError: for an input that cannot be read
    """
    columns = needed_columns(prompt, passthrough)
    unseen = set(columns)
    kinds = ColumnKinds(passthrough)
    # Twice as fast as others, where processors know it; whoever could forge a file may as well change it.
    digest = hashlib.sha1(source.layout().encode(), usedforsecurity=False)
    total = 0
    try:
        for batch in source.batches(columns=columns, required=prompt.columns):
            total += len(batch)
            batch.check()
            kinds.observe(batch)
            digest.update(batch.content())
            if not batch.checked:
                _check(source, batch, prompt)
            if max_prompt_chars is not None:
                check_lengths(prompt.render_all(batch.rows), max_prompt_chars, batch.where)
            if unseen:
                unseen -= {column for column in unseen if batch.has(column)}
    except MissingColumnError as error:
        if error.column in prompt.columns:
            raise prompt.missing(error.place, error.column, error.columns) from None
        raise
    if total and unseen:
        raise MissingColumnError.of(source.describe(), min(unseen), next(source.read()).row)
    return InputSummary(total, digest.hexdigest(), kinds.found())


def _check(source: Source, batch: Batch, prompt: PromptTemplate) -> None:
    for column in prompt.columns:
        offset = batch.lacking(column)
        if offset is not None:
            # The batch may hold the needed columns only: the message is better with all of them.
            whole = next(islice(source.read(batch.start), offset, None)).row
            raise prompt.missing(batch.where(offset), column, whole)


def check_lengths(prompts: Sequence[str], limit: int, place: Callable[[int], str]) -> None:
    """Make sure that no prompt is longer than is allowed.

    :param prompts: the prompts
    :param limit: characters of the longest one that is allowed
    :param place: names the row of a prompt, by its number in the list
    :raises BadRowError: for the first that is longer
    """
    lengths = list(map(len, prompts))
    if max(lengths, default=0) <= limit:
        return
    number, length = next((number, length) for number, length in enumerate(lengths) if length > limit)
    raise BadRowError(
        f"{place(number)}: the prompt has {length} characters, and max_prompt_chars allows {limit}. Shorten the row, "
        "leave it out, or raise max_prompt_chars."
    )


class ColumnKinds:
    """Looks at columns batch by batch.

    :param columns: the columns' names
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._seen: dict[str, set[type]] = {column: set() for column in columns}

    def observe(self, batch: Batch) -> None:
        """Take some rows into account."""
        for column, seen in self._seen.items():
            seen.update(batch.kinds(column))

    def found(self) -> dict[str, ColumnKind]:
        """What is in each column; ``text`` where there is nothing."""
        return {column: _kind(seen - {type(None)}) for column, seen in self._seen.items()}


def _kind(types: set[type]) -> ColumnKind:
    if types <= {str}:
        return "text"
    if types == {bool}:
        return "flag"
    if types <= {int, _Large}:
        return "integer"
    return "number" if types <= {int, float} else "json"
