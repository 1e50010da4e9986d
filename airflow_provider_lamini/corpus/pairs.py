"""Rows for tuning and evaluation: pairs of an input and its right output."""

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
from airflow_provider_lamini.rows.row_request import ConversationText, RequestTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.values import Row

_NAMED = 10
"""Maximum number of bad rows in a message."""
_MAX_NAME_WORDS = 3
"""A column name with more words is probably a prompt."""


class Pair(msgspec.Struct, frozen=True, gc=False):
    """One row of a dataset.

    :param input: the question to the model
    :param output: the right answer
    """

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Templates that make a pair of a row.

    :param prompt: makes the input
    :param answer: makes the output
    :param texts: both templates as the user wrote them
    """

    prompt: PromptTemplate
    answer: PromptTemplate
    texts: tuple[str, str]

    @classmethod
    def parse(cls, prompt: object, answer: object) -> Columns:
        """Parse both templates.

        :param prompt: a template over a row's columns, or the name of a column
        :param answer: the same for the output
        :raises ColumnError: if one is not a text, or empty
        """
        return cls(_template("prompt", prompt), _template("answer", answer), (str(prompt), str(answer)))

    @classmethod
    def of_conversations(cls, messages: str, answer: object) -> Columns:
        """Pairs of conversations: the last question, and the answer at the end or of another template.

        :param messages: the column with the conversation
        :param answer: a template for the output; ``None`` for the conversation's last message
        :raises ColumnError: if the answer is not a text, or empty
        """
        if answer is not None:
            question = RequestTemplate(prompt=None, messages=messages, chat=True)
            return cls(question, _template("answer", answer), (messages, str(answer)))
        return cls(
            ConversationText(messages, answer=False),
            ConversationText(messages, answer=True),
            (messages, messages),
        )

    def bind(self, source: Source) -> Columns:
        """The templates for the columns of an input.

        :param source: the input
        :raises ColumnError: if a brace looks like a placeholder, but is no column
        """
        return Columns(source.bind(self.prompt), source.bind(self.answer), self.texts)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        return tuple(dict.fromkeys((*self.prompt.columns, *self.answer.columns)))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in a file.

    :param file: the pairs as JSON Lines
    :param rows: number of pairs
    :param size: size of the file in bytes
    """

    file: FilePart
    rows: int
    size: int


@contextmanager
def dataset_file(
    source: Source, columns: Columns, fields: tuple[str, str] = ("input", "output")
) -> Iterator[Dataset]:
    """Read and validate an input once, and keep its pairs in a temporary file while the block runs.

    Memory does not depend on the number of rows; the disk for temporary files must have space for them.

    :param source: the input
    :param columns: make a pair of each row
    :param fields: what input and output of a pair are called in the file
    :raises BadRowError: if rows cannot be used; it names the first ones by number
    :raises InputError: if the input has no rows, or cannot be read
    :raises ColumnError: if a file lacks a column
    """
    with tempfile.NamedTemporaryFile(prefix="airflow-provider-lamini-dataset-", suffix=".jsonl") as file:
        rows, encoder = 0, msgspec.json.Encoder()
        for pairs in validated_pairs(source, columns):
            rows += len(pairs)
            lines = pairs if fields == Pair.__struct_fields__ else [_named(pair, fields) for pair in pairs]
            file.write(encoder.encode_lines(lines))
        file.flush()
        path = Path(file.name)

        def reopen() -> BinaryIO:
            return path.open("rb")

        yield Dataset(FilePart("dataset.jsonl", reopen, "application/jsonl"), rows, file.tell())


def _named(pair: Pair, fields: tuple[str, str]) -> dict[str, str]:
    return dict(zip(fields, (pair.input, pair.output), strict=True))


def validated_pairs(source: Source, columns: Columns) -> Iterator[list[Pair]]:
    """Read an input and validate each row.

    Pairs are returned in batches as they are read. After the first bad row, no more pairs are returned; the remaining rows
    are still validated, so that the error at the end can say how many are bad.

    :param source: the input
    :param columns: make a pair of each row
    :return: batches of pairs
    :raises BadRowError: if rows cannot be used
    :raises InputError: if the input has no rows, or cannot be read
    """
    columns = columns.bind(source)
    total, bad = 0, _BadRows(source)
    for batch in source.batches(columns=columns.needed, required=columns.needed):
        pairs = bad.check(batch, columns)
        total += len(batch)
        if not bad.count:
            yield pairs
    if bad.count:
        raise bad.error()
    if not total:
        raise InputError(f"{source.describe()} has no rows, so there is nothing to train or evaluate with.")


class _BadRows:
    """Collects the rows of an input that cannot be used.

    :param source: the input
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[str] = []
        self.count = 0

    def check(self, batch: Batch, columns: Columns) -> list[Pair]:
        """Make pairs of the rows of a batch, and collect the rows that cannot be used."""
        if not any(row.get(column) is None for column in columns.needed for row in batch.rows):
            try:
                pairs = list(
                    map(Pair, columns.prompt.render_all(batch.rows), columns.answer.render_all(batch.rows))
                )
            except BadRowError:  # the loop finds the row
                pairs = []
            if pairs and all(pair.input.strip() and pair.output.strip() for pair in pairs):
                return pairs
        for offset, row in enumerate(batch.rows):
            if _problem(row, columns):
                self.count += 1
                if len(self._found) < _NAMED:
                    # The batch may have the needed columns only; the message should list all of them.
                    complete_row = next(islice(self._source.read(batch.start), offset, None)).row
                    self._found.append(f"{batch.describe_row(offset)} {_problem(complete_row, columns)}")
        return []

    def error(self) -> BadRowError:
        """The error about all collected rows."""
        more = f"; and {self.count - _NAMED} more" if self.count > _NAMED else ""
        rows = "1 row" if self.count == 1 else f"{self.count} rows"
        return BadRowError(
            f"{rows} of {self._source.describe()} cannot be used: {'; '.join(self._found)}{more}. "
            "Correct or remove them; nothing was sent."
        )


def _problem(row: Row, columns: Columns) -> str | None:
    """What is wrong with a row, without its content; ``None`` if nothing is."""
    for column in columns.needed:
        if column not in row:
            return (
                f"has no column {_describe_column(column, columns)} ({list_columns(tuple(row)).rstrip('.')})"
            )
        if row[column] is None:
            return f"has no value in the column {short_name(column)!r}"
    for name, template in (("input", columns.prompt), ("output", columns.answer)):
        try:
            text = template.render(row)
        except BadRowError as error:
            return f"cannot be used: {error}"
        if not text.strip():
            return f"makes an empty {name}"
    return None


def _describe_column(column: str, columns: Columns) -> str:
    """The name of a missing column. If it is a whole prompt by mistake, the message does not repeat it."""
    bare = [template for template in (columns.prompt, columns.answer) if template.bare]
    if any(column in template.columns for template in bare) and len(column.split()) > _MAX_NAME_WORDS:
        return f"named like the text of {len(column)} characters that was passed without columns in braces"
    return repr(short_name(column))


def _template(name: str, text: object) -> PromptTemplate:
    try:
        return PromptTemplate.parse(text)
    except ColumnError:
        raise ColumnError(
            f"{name} must be a text with columns in braces, such as 'Summarize: {{body}}', or the name of a column."
        ) from None
