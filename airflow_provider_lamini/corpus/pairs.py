"""Rows for tuning and evaluation: an input and the output that is right, each checked, then kept in a file."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.rows.errors import BadRowError, ColumnError, InputError, list_columns, short_name
from airflow_provider_lamini.rows.prompt import PromptTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.values import Row

_NAMED = 10
_WORDS = 3
"""Bad rows that a message names at most."""


class Pair(msgspec.Struct, frozen=True, gc=False):
    """One row of a dataset, as the platform wants it.

    :param input: what the model is asked
    :param output: what it should answer
    """

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Columns:
    """How a row becomes a row of a dataset.

    :param prompt: makes the input
    :param answer: makes the output
    :param texts: both, as the user wrote them
    """

    prompt: PromptTemplate
    answer: PromptTemplate
    texts: tuple[str, str]

    @classmethod
    def parse(cls, prompt: object, answer: object) -> Columns:
        """Read both templates.

        :param prompt: a template over a row's columns, or the name of a column
        :param answer: the same, for the output
        :raises ColumnError: for what is not a text, or an empty one
        """
        return cls(_template("prompt", prompt), _template("answer", answer), (str(prompt), str(answer)))

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        return tuple(dict.fromkeys((*self.prompt.columns, *self.answer.columns)))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of a dataset in a file.

    :param file: the rows as JSON Lines
    :param rows: how many they are
    :param size: bytes of the file
    """

    file: FilePart
    rows: int
    size: int


@contextmanager
def kept(source: Source, columns: Columns) -> Iterator[Dataset]:
    """Read and check an input once, and keep its rows in a temporary file while the block lasts.

    Memory does not depend on the number of rows; the disk for temporary files must have room for them.

    :param source: the input
    :param columns: how its rows become rows of a dataset
    :raises BadRowError: where rows cannot be used; it names the first of them by number
    :raises InputError: for an input without rows, or one that cannot be read
    :raises ColumnError: for a file that lacks a column
    """
    with tempfile.NamedTemporaryFile(prefix="lamini-dataset-", suffix=".jsonl") as file:
        rows, encoder = 0, msgspec.json.Encoder()
        for pairs in checked(source, columns):
            rows += len(pairs)
            file.write(encoder.encode_lines(pairs))
        file.flush()
        path = Path(file.name)

        def reopen() -> BinaryIO:
            return path.open("rb")

        yield Dataset(FilePart("dataset.jsonl", reopen, "application/jsonl"), rows, file.tell())


def checked(source: Source, columns: Columns) -> Iterator[list[Pair]]:
    """Read an input and check each row.

    Rows come as they are read. After the first bad one no more come; all the rest is looked at, and the error
    at the end tells how many are bad.

    :param source: the input
    :param columns: how its rows become rows of a dataset
    :raises BadRowError: where rows cannot be used
    :raises InputError: for an input without rows, or one that cannot be read
    """
    total, bad = 0, _BadRows(source)
    for batch in source.batches(columns=columns.needed):
        pairs = bad.check(batch, columns)
        total += len(batch)
        if not bad.count:
            yield pairs
    if bad.count:
        raise bad.error()
    if not total:
        raise InputError(
            f"{source.describe()} has no rows: a model can neither learn from none nor be judged by them."
        )


class _BadRows:
    """Collects the rows of an input that cannot be used.

    :param source: the input
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[str] = []
        self.count = 0

    def check(self, batch: Batch, columns: Columns) -> list[Pair]:
        """Make pairs of a batch's rows, and note those that cannot be used."""
        if not any(row.get(column) is None for column in columns.needed for row in batch.rows):
            pairs = list(
                map(Pair, columns.prompt.render_all(batch.rows), columns.answer.render_all(batch.rows))
            )
            if all(pair.input.strip() and pair.output.strip() for pair in pairs):
                return pairs
        for offset, row in enumerate(batch.rows):
            if _problem(row, columns):
                self.count += 1
                if len(self._found) < _NAMED:
                    # The batch may hold the needed columns only: the message is better with all of them.
                    whole = next(islice(self._source.read(batch.start), offset, None)).row
                    self._found.append(f"{batch.describe_row(offset)} {_problem(whole, columns)}")
        return []

    def error(self) -> BadRowError:
        """What to say of them."""
        more = f"; and {self.count - _NAMED} more" if self.count > _NAMED else ""
        rows = "1 row" if self.count == 1 else f"{self.count} rows"
        return BadRowError(
            f"{rows} of {self._source.describe()} cannot be used: {'; '.join(self._found)}{more}. "
            "Correct or remove them; nothing was sent."
        )


def _problem(row: Row, columns: Columns) -> str | None:
    """What is wrong with a row, without its content."""
    for column in columns.needed:
        if column not in row:
            return f"has no column {_called(column, columns)} ({list_columns(tuple(row)).rstrip('.')})"
        if row[column] is None:
            return f"has no value in the column {short_name(column)!r}"
    for name, template in (("input", columns.prompt), ("output", columns.answer)):
        if not template.render(row).strip():
            return f"makes an empty {name}"
    return None


def _called(column: str, columns: Columns) -> str:
    """The name of a missing column. A whole prompt that was given in the place of a name is not repeated."""
    bare = [template for template in (columns.prompt, columns.answer) if template.bare]
    if any(column in template.columns for template in bare) and len(column.split()) > _WORDS:
        return f"called as the text of {len(column)} characters that was given without columns in braces"
    return repr(short_name(column))


def _template(name: str, text: object) -> PromptTemplate:
    try:
        return PromptTemplate.parse(text)
    except ColumnError:
        raise ColumnError(
            f"{name} must be a text with columns in braces, such as 'Summarize: {{body}}', or the name of a column."
        ) from None
