"""Checks of an input before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.bad_rows import BadRows
from airflow_provider_lamini.rows.batch import limited
from airflow_provider_lamini.rows.columns import column_kind
from airflow_provider_lamini.rows.errors import BadRowError, MissingColumnError, OutputError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.prompts.screening import screen
from airflow_provider_lamini.rows.storage.run_files import OUTPUT_EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.columns import ColumnKind
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What `validate_input` has found.

    :param total_rows: number of rows
    :param column_kinds: type of each passthrough column
    :param bad: the rows that cannot be sent
    :param characters: characters of all prompts that can be sent
    """

    total_rows: int
    column_kinds: dict[str, ColumnKind] = field(default_factory=dict)
    bad: BadRows = field(default_factory=BadRows)
    characters: int = 0


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
    if any(source.matches(f"{folder.path.rstrip('/')}/{name}") for name in OUTPUT_EXAMPLES):
        raise OutputError(
            f"The pattern of the input matches files in the output folder {folder}. Choose another folder."
        )


def validate_input(
    source: Source,
    prompt: PromptTemplate,
    *,
    passthrough: Sequence[str] = (),
    max_prompt_chars: int | None = None,
    keep_bad: bool = False,
    limit_rows: int | None = None,
) -> InputSummary:
    """Read the whole input once and check each row. Memory does not depend on the number of rows.

    Every row needs a prompt (`screen`). A passthrough column may be missing in some rows; if a column is missing in all
    rows, its name is wrong.

    :param source: the input, opened with the same ``keep_bad``; with a limit, with ``keep_bad`` in any case
    :param prompt: makes the prompt of a row
    :param passthrough: columns to copy into the output
    :param max_prompt_chars: maximum length of a prompt in characters
    :param keep_bad: count rows that cannot be sent instead of raising an error for the first of them
    :param limit_rows: only the first rows count, this many; ``None`` for all
    :raises MissingColumnError: for the first row without a value that the prompt needs
    :raises BadRowError: for the first row that cannot be read, whose prompt is empty, or too long
    :raises InputError: if the input cannot be read
    """
    columns = needed_columns(prompt, passthrough)
    unseen = set(columns)
    kinds: dict[str, set[type]] = {column: set() for column in passthrough}
    total = 0
    checks = _RowChecks(source, prompt, max_prompt_chars, keep_bad=keep_bad)
    try:
        for batch in limited(source.batches(columns=columns, required=prompt.columns), limit_rows):
            total += len(batch)
            batch.check()
            for column, seen in kinds.items():
                seen.update(batch.kinds(column))
            checks.check(batch)
            if unseen:
                unseen -= {column for column in unseen if batch.has(column)}
    except MissingColumnError as error:
        if error.column in prompt.columns:
            raise prompt.missing(error.location, error.column, error.columns) from None
        raise
    if unseen and total > checks.unreadable:
        raise MissingColumnError.of(source.describe(), min(unseen), next(source.read()).row)
    return InputSummary(
        total,
        {column: column_kind(seen) for column, seen in kinds.items()},
        checks.bad,
        checks.characters,
    )


class _RowChecks:
    """Finds the rows that cannot be sent.

    :param source: the input
    :param prompt: makes the prompt of a row
    :param max_prompt_chars: maximum length of a prompt in characters
    :param keep_bad: count such rows instead of raising an error for the first of them
    """

    def __init__(
        self, source: Source, prompt: PromptTemplate, max_prompt_chars: int | None, *, keep_bad: bool
    ) -> None:
        self._source = source
        self._prompt = prompt
        self._max_chars = max_prompt_chars
        self._keep_bad = keep_bad
        self.bad = BadRows()
        self.characters = 0

    @property
    def unreadable(self) -> int:
        """Number of rows that could not be read."""
        return self.bad.failures[FailureReason.BAD_ROW]

    def check(self, batch: Batch) -> None:
        """Check the rows of a batch."""
        prompt = self._prompt
        if not self._needs_look(batch):
            self.characters += prompt.characters(batch)
            return
        prompts, found = screen(batch.rows, batch.bad, prompt, self._max_chars)
        self.characters += sum(prompt.lengths([text for text in prompts if text]))
        if not found:
            return
        if not self._keep_bad:
            raise self._error(batch, *min(found.items()))
        self.bad.add(batch, found)

    def _needs_look(self, batch: Batch) -> bool:
        """Whether a row of a batch may not be sent."""
        prompt = self._prompt
        first = prompt.text_columns[0]
        return (
            bool(batch.bad)
            or self._max_chars is not None
            or prompt.may_refuse
            or not (batch.checked or all(batch.first_missing(column) is None for column in prompt.columns))
            # If the first column is nowhere blank, no prompt is empty.
            or batch.has_blank(first)
            or (prompt.is_one_value and not prompt.takes_conversations and batch.has_conversation(first))
        )

    def _error(self, batch: Batch, offset: int, failure: RowFailure) -> RowError:
        if offset in batch.bad:  # the error of a reader says where the row is
            return BadRowError(failure.text)
        row, location = batch.rows[offset], batch.describe_row(offset)
        for column in self._prompt.columns:
            if row.get(column) is None:
                # The batch may have the needed columns only; the message should list all of them.
                complete_row = next(islice(self._source.read(batch.start), offset, None)).row
                return self._prompt.missing(location, column, complete_row)
        return BadRowError(
            f"{location}: {failure.text}. {_REMEDIES.get(failure.reason, '')}Nothing was sent. To process the other rows, "
            "set on_bad_row='error'."
        )


_REMEDIES = {
    FailureReason.NO_PROMPT: "Fill it in, or leave the row out. ",
    FailureReason.PROMPT_TOO_LONG: "Shorten the row, leave it out, or raise max_prompt_chars. ",
}
