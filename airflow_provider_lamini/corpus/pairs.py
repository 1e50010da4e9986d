"""Rows for tuning and evaluation: pairs of an input and its right output."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.rows.bad_rows import BadRowPolicy, BadRows
from airflow_provider_lamini.rows.batch import limited
from airflow_provider_lamini.rows.errors import (
    BadRowError,
    ColumnError,
    InputChangedError,
    InputError,
    MissingColumnError,
    NoExpectedAnswerError,
    list_columns,
)
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.limits import Budget
from airflow_provider_lamini.rows.prompts.row_request import ConversationText, RequestTemplate
from airflow_provider_lamini.rows.prompts.screening import makes_blank
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.options import InputOptions
from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage.local import TemporaryFile
from airflow_provider_lamini.rows.texts import any_blank, conversation_problem, is_blank
from airflow_provider_lamini.wording import counted, short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import BinaryIO

    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.values import Row

REFUSE = BadRowPolicy()
"""No row may be bad."""
UNLIMITED = Budget()
"""There may be any number of rows and characters."""
INPUT = "input"
"""The column that is the question, unless a prompt is given."""
INSTRUCTION = "instruction"
"""The column with the question in datasets in Alpaca's format, in which the input only adds to it."""
_MAX_SHOWN = 10
"""Maximum number of bad rows in a message."""
_NO_CONVERSATION = "Pass a column with its question, and one with the right answer"
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
        :raises ColumnError: if a brace looks like a placeholder, but is not a column
        """
        return Columns(source.bind(self.prompt), source.bind(self.answer), self.texts)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        return tuple(dict.fromkeys((*self.prompt.columns, *self.answer.columns)))


class AnsweredPrompt(PromptTemplate):
    """Makes the prompts of rows that also need an expected answer: without one, a row is not sent.

    :param prompt: makes the prompt
    :param answer: makes the answer
    """

    def __init__(self, prompt: PromptTemplate, answer: PromptTemplate) -> None:
        super().__init__(prompt.text, prompt.pieces, prompt.placeholders, bare=prompt.bare)
        self.text = f"{prompt.text}\n{answer.text}"
        self.columns, self.text_columns = prompt.columns, prompt.text_columns
        self.optional_columns = tuple(dict.fromkeys((*prompt.optional_columns, *answer.columns)))
        self.may_refuse, self.takes_conversations = True, prompt.takes_conversations
        self._prompt, self._answer = prompt, answer

    @property
    def needs_columns(self) -> bool:
        return self._prompt.needs_columns or self._answer.needs_columns

    def for_columns(self, columns: Collection[str]) -> AnsweredPrompt:
        return AnsweredPrompt(self._prompt.for_columns(columns), self._answer.for_columns(columns))

    def render(self, row: Row) -> str:
        """Make the prompt of one row.

        :raises NoExpectedAnswerError: if it has no answer
        :raises BadRowError: if it cannot be used otherwise
        """
        missing = next((column for column in self._answer.columns if row.get(column) is None), None)
        if missing is not None:
            raise NoExpectedAnswerError(
                f"the row has no value in the column {short_name(missing)!r}, which the expected answer needs"
            )
        if makes_blank(row, self._answer) or is_blank(self._answer.render(row)):
            raise NoExpectedAnswerError("the expected answer of the row would be empty")
        return self._prompt.render(row)

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        return list(map(self.render, rows))

    def characters(self, batch: Batch) -> int:
        return self._prompt.characters(batch)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return self._prompt.lengths(prompts)


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A dataset in a file.

    :param file: the pairs as JSON Lines
    :param rows: number of pairs
    :param size: size of the file in bytes
    :param bad: the rows of the input that were left out
    :param found: what was read, for the log
    """

    file: FilePart
    rows: int
    size: int
    bad: BadRows
    found: str


@contextmanager
def dataset_file(reader: PairReader, fields: tuple[str, str] = ("input", "output")) -> Iterator[DatasetFile]:
    """Read and validate an input once, and keep its pairs in a temporary file while the block runs.

    Memory does not depend on the number of rows; the disk for temporary files must have space for them.

    :param reader: the input
    :param fields: what input and output of a pair are called in the file
    :raises BadRowError: if rows cannot be used, or more than may be; it names the first ones by number
    :raises InputError: if the input has no rows, or cannot be read
    :raises ColumnError: if a file lacks a column
    """
    with TemporaryFile() as file:
        rows, encoder = 0, msgspec.json.Encoder()
        for pairs in reader.read():
            rows += len(pairs)
            lines = (
                pairs if fields == Pair.__struct_fields__ else [_with_fields(pair, fields) for pair in pairs]
            )
            file.write(encoder.encode_lines(lines))
        path = file.path()

        def reopen() -> BinaryIO:
            return path.open("rb")

        part = FilePart("dataset.jsonl", reopen, "application/jsonl")
        yield DatasetFile(part, rows, file.size(), reader.bad, reader.describe())


def _with_fields(pair: Pair, fields: tuple[str, str]) -> dict[str, str]:
    return dict(zip(fields, (pair.input, pair.output), strict=True))


class PairReader:
    """Reads an input and validates each row.

    :param source: the input, opened by `PairInput.open`: it keeps bad rows if the policy does, or if there is a limit
    :param columns: make a pair of each row
    :param policy: what becomes of rows that cannot be used
    :param limit_rows: only the first rows count, this many; ``None`` for all
    :param budget: how many rows and characters there may be
    :raises ColumnError: if a brace looks like a placeholder, but is not a column

    :ivar bad: the rows that cannot be used, as far as it was read
    """

    def __init__(
        self,
        source: Source,
        columns: Columns,
        policy: BadRowPolicy = REFUSE,
        *,
        limit_rows: int | None = None,
        budget: Budget = UNLIMITED,
    ) -> None:
        self._source = source
        self._columns = columns.bind(source)
        self._policy = policy
        self._limit_rows = limit_rows
        self._budget = budget
        self._rows = self._characters = 0
        self._described: list[str] = []
        self.bad = BadRows()

    def describe(self) -> str:
        """What was read, left out and sniffed, for the log, without any content."""
        used = counted(self._rows - self.bad.count, "row")
        characters = counted(self._characters, "character")
        return (
            f"{self._source.describe()}: {used}, {characters}, {self.bad.verdict()}.{self._source.remarks()}"
        )

    def counts(self) -> dict[str, object]:
        """How many rows and characters were read, and how many rows cannot be used, by reason."""
        failures = dict(self.bad.failures)
        return {"rows": self._rows, "characters": self._characters, "failures": failures}

    def read(self) -> Iterator[list[Pair]]:
        """Read the pairs of the rows that can be used. Errors as for `read_all`.

        :return: batches of pairs
        """
        for pairs in self.read_all():
            yield [pair for pair in pairs if pair is not None]

    def read_all(self) -> Iterator[Sequence[Pair | None]]:
        """Read all rows, one item for each.

        Pairs are returned in batches as they are read. If bad rows are not kept, no more pairs are returned after the first
        bad row; the remaining rows are still validated, so that the error at the end can say how many are bad.

        :return: batches of pairs; ``None`` for a row that cannot be used
        :raises BadRowError: if rows cannot be used, or more than may be
        :raises MissingColumnError: if no row has a column
        :raises InputChangedError: if a file was changed meanwhile
        :raises InputError: if the input has no rows, or more than may be, or cannot be read
        """
        needed = self._columns.needed
        unseen = set(needed)
        version = self._file_version()
        checked = (INSTRUCTION,) if self._columns.texts[0] == INPUT else ()
        batches = self._source.batches(columns=dict.fromkeys((*needed, *checked)), required=needed)
        for batch in limited(batches, self._limit_rows):
            if checked:
                self._check_instructions(batch)
            pairs = self._pairs(batch)
            self._rows += len(batch)
            self._characters += sum(len(pair.input) + len(pair.output) for pair in pairs if pair is not None)
            unseen -= {column for column in unseen if batch.has(column)}
            if self._policy.keep or not self.bad.count:
                yield pairs
        if self._file_version() != version:
            raise InputChangedError(
                f"{self._source.describe()} was changed while it was read. Clear the task once the input is complete."
            )
        if self.bad.count and not self._policy.keep:
            raise self._error()
        if unseen and self._rows > self.bad.failures[FailureReason.BAD_ROW]:
            first = next(self._source.read()).row
            raise MissingColumnError.of(self._source.describe(), min(unseen), first)
        if not self._rows:
            raise InputError(
                f"{self._source.describe()} has no rows, so there is nothing to train or evaluate with."
            )
        self._policy.check_used(self.bad, self._rows, self._source.describe())
        refusal = self._budget.refusal(self._rows, self._characters, texts="questions and answers")
        if refusal is not None:
            raise InputError(f"{refusal} ({self._source.describe()}). Nothing was sent.")

    def _check_instructions(self, batch: Batch) -> None:
        """Make sure that the default prompt leaves out no question, as datasets in Alpaca's format have it beside the input.

        :raises ColumnError: if rows have one
        """
        if any(
            isinstance(row.get(INSTRUCTION), str) and not is_blank(row[INSTRUCTION]) for row in batch.rows
        ):
            raise ColumnError(
                f"{self._source.describe()}: rows have an 'instruction' beside the 'input'. To use both, pass "
                "prompt='{instruction}\\n\\n{input}'; to leave it out, pass prompt='{input}'."
            )

    def _file_version(self) -> str:
        """Changes when a file of the input is written again; empty for a list."""
        return self._source.version() if self._source.paths() else ""

    def _pairs(self, batch: Batch) -> Sequence[Pair | None]:
        """Make pairs of the rows of a batch, and count the rows that cannot be used."""
        columns, rows = self._columns, batch.rows
        if batch.bad and not self._policy.keep:  # the error of a reader says where the row is
            raise BadRowError(batch.bad[min(batch.bad)].text)
        if not batch.bad and not any(row.get(column) is None for column in columns.needed for row in rows):
            try:
                pairs = list(map(Pair, columns.prompt.render_all(rows), columns.answer.render_all(rows)))
            except BadRowError:  # the loop finds the row
                pairs = []
            if pairs and not self._may_be_blank(batch, pairs) and not self._has_conversation(batch):
                return pairs
        found = dict(batch.bad)
        for offset, row in enumerate(rows):
            failure = None if offset in found else _problem(row, columns)
            if failure is not None:
                found[offset] = failure
                if not self._policy.keep and len(self._described) < _MAX_SHOWN:
                    # The batch may have the needed columns only; the message should list all of them.
                    complete_row = next(islice(self._source.read(batch.start), offset, None)).row
                    complete = _problem(complete_row, columns) or failure
                    self._described.append(f"{batch.describe_row(offset)} {complete.text}")
        self.bad.add(batch, found)
        return [
            None if offset in found else Pair(columns.prompt.render(row), columns.answer.render(row))
            for offset, row in enumerate(rows)
        ]

    def _may_be_blank(self, batch: Batch, pairs: Sequence[Pair]) -> bool:
        """Whether a prompt or an answer of a batch may be blank."""
        first = self._columns.prompt.text_columns[0], self._columns.answer.text_columns[0]
        texts = [pair.input for pair in pairs], [pair.output for pair in pairs]
        return any(map(batch.has_blank, first)) or any(map(any_blank, texts))

    def _has_conversation(self, batch: Batch) -> bool:
        """Whether a prompt of a batch would be the JSON text of a conversation."""
        prompt = self._columns.prompt
        return (
            prompt.is_one_value
            and not prompt.takes_conversations
            and batch.has_conversation(prompt.text_columns[0])
        )

    def _error(self) -> BadRowError:
        """The error about all bad rows."""
        count = self.bad.count
        more = f"; and {count - _MAX_SHOWN} more" if count > _MAX_SHOWN else ""
        rows = counted(count, "row")
        return BadRowError(
            f"{rows} of {self._source.describe()} cannot be used: {'; '.join(self._described)}{more}. Correct or remove them; "
            "nothing was sent. To leave them out, set on_bad_row='error' and max_failed_rows."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairInput:
    """Rows that become pairs.

    :param rows: a list, or a path, URI or glob, or an input that is read once
    :param columns: make a pair of each row
    :param conn_id: the connection for the input's object storage
    :param options: how to read the input
    :param policy: what becomes of rows that cannot be used
    :param limit_rows: only the first rows count, this many; ``None`` for all
    :param budget: how many rows and characters there may be
    """

    rows: object
    columns: Columns
    conn_id: str | None = None
    options: InputOptions = field(default_factory=InputOptions)
    policy: BadRowPolicy = REFUSE
    limit_rows: int | None = None
    budget: Budget = UNLIMITED

    def open(self) -> Source:
        """Find the input.

        :raises RowError: if it cannot be found
        """
        rows = self.rows.sample(self.limit_rows) if isinstance(self.rows, ReadOnceInput) else self.rows
        keep_bad = self.policy.keep or self.limit_rows is not None
        return open_source(rows, conn_id=self.conn_id, keep_bad=keep_bad, options=self.options)

    def reader(self, source: Source) -> PairReader:
        """Return a reader of the pairs.

        :param source: the input, as `open` has found it
        """
        return PairReader(source, self.columns, self.policy, limit_rows=self.limit_rows, budget=self.budget)

    def fingerprint_inputs(self, source: Source) -> dict[str, object]:
        """Everything that decides the pairs, without reading the input.

        :param source: the input
        """
        return {
            "input": source.version(),
            "columns": self.columns.texts,
            **({"on_bad_row": "error"} if self.policy.keep else {}),
            **({} if self.limit_rows is None else {"limit_rows": self.limit_rows}),
        }


def _problem(row: Row, columns: Columns) -> RowFailure | None:
    """What is wrong with a row, without its content; ``None`` if nothing is."""
    templates = (
        ("input", columns.prompt, FailureReason.NO_PROMPT),
        ("output", columns.answer, FailureReason.NO_EXPECTED_ANSWER),
    )
    for _, template, reason in templates:
        for column in template.columns:
            if column not in row:
                name, existing = _describe_column(column, columns), list_columns(tuple(row)).rstrip(".")
                return RowFailure(reason, f"has no column {name} ({existing})")
            if row[column] is None:
                return RowFailure(reason, f"has no value in the column {short_name(column)!r}")
    prompt = columns.prompt
    if prompt.is_one_value and not prompt.takes_conversations:
        column = prompt.text_columns[0]
        problem = conversation_problem(row[column], column, _NO_CONVERSATION)
        if problem is not None:
            return RowFailure(FailureReason.BAD_ROW, f"cannot be used: {problem}")
    for name, template, reason in templates:
        try:
            blank = makes_blank(row, template) or is_blank(template.render(row))
        except BadRowError as error:
            return RowFailure(FailureReason.BAD_ROW, f"cannot be used: {error}")
        if blank:
            return RowFailure(reason, f"makes an empty {name}")
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
