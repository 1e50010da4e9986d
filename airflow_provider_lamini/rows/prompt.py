"""Prompt templates: a text with column names in braces, or the name of one column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import msgspec

from airflow_provider_lamini.api.call import PromptList
from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.conversation import hint_for
from airflow_provider_lamini.rows.errors import ColumnError, MissingColumnError, list_columns, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.values import Row

_TOKEN = re.compile(r"\\([{}])|\{([^\W\d]\w*(?:[ .-]+\w+)*)\}")


class PromptTemplate:
    r"""Makes the prompt of a row.

    ``{column}`` stands for the value of a column. A column name starts with a letter or an underscore and continues with
    letters, digits and underscores; spaces, dots or hyphens may separate its words. Other braces are plain text, so JSON
    in a prompt needs no escaping: ``{"label": 1}``, ``{}`` and ``{ x }`` stay as they are. ``\{`` and ``\}`` are always
    plain braces. A text without placeholders is the name of the column that contains the whole prompt.

    Texts are inserted as they are; numbers, flags, lists and mappings as JSON.

    :param text: the template as the user wrote it
    :param pieces: the plain text before each placeholder, and after the last one
    :param columns: the column of each placeholder
    :param bare: whether the text is the name of a column
    """

    def __init__(self, text: str, pieces: Sequence[str], columns: Sequence[str], *, bare: bool) -> None:
        self.text = text
        self.bare = bare
        self._pieces = tuple(pieces)
        self._placeholders = tuple(columns)
        self.columns = tuple(dict.fromkeys(columns))
        """The columns that the prompt needs, each once."""
        self._fixed_characters = sum(map(len, pieces))
        self.text_columns = self.columns
        """The columns of which at least one must not be blank."""
        self.optional_columns: tuple[str, ...] = ()
        """Columns that are read as well, and need not have a value in each row."""
        self.may_refuse = False
        """Whether a row may be refused although each column that the prompt needs has a value."""
        self._around = (pieces[0], pieces[1]) if len(pieces) == 2 else None  # noqa: PLR2004 - one column between
        self.is_one_value = self._around == ("", "")
        """Whether a prompt is the value of one column and nothing else."""
        self._pattern = "%s".join(piece.replace("%", "%%") for piece in pieces)

    @classmethod
    def parse(cls, text: object) -> PromptTemplate:
        """Parse a template.

        :param text: the template, or the name of a column
        :raises ColumnError: if it is not a text, or empty
        """
        if not isinstance(text, str) or not text.strip():
            raise ColumnError(
                "The prompt must be a text with columns in braces, such as 'Summarize: {body}', or the "
                "name of a column."
            )
        pieces = [""]
        columns = []
        end = 0
        for token in _TOKEN.finditer(text):
            brace, column = token.groups()
            pieces[-1] += text[end : token.start()] + (brace or "")
            if column:
                columns.append(column)
                pieces.append("")
            end = token.end()
        pieces[-1] += text[end:]
        if columns:
            return cls(text, pieces, columns, bare=False)
        return cls(text, ("", ""), [text], bare=True)

    def joined(self, other: PromptTemplate, separator: str) -> PromptTemplate:
        """Return a template that makes the texts of both, for requests with two texts per row.

        :param other: the second template
        :param separator: what separates both texts
        """
        first, second = self._pieces, other._pieces
        pieces = (*first[:-1], f"{first[-1]}{separator}{second[0]}", *second[1:])
        columns = (*self._placeholders, *other._placeholders)
        return PromptTemplate(f"{self.text}{separator}{other.text}", pieces, columns, bare=False)

    def render(self, row: Row) -> str:
        """Make the prompt of one row.

        :raises MissingColumnError: if the row has no value in one of the columns
        """
        values = []
        for column in self._placeholders:
            value = row.get(column)
            if value is None:
                raise self.missing("The row", column, row)
            values.append(_text(value))
        return self._pattern % tuple(values)

    def render_all(self, rows: Sequence[Row]) -> PromptList:
        """Make the prompts of many rows, much faster than one by one.

        :param rows: the rows
        :raises MissingColumnError: for the first row without a value in one of the columns
        """
        columns = [_texts(self._values(column, rows)) for column in self._placeholders]
        if self._around is not None:
            head, tail = self._around
            if head or tail:
                return PromptList([f"{head}{text}{tail}" for text in columns[0]])
            return PromptList(columns[0])
        return PromptList(map(self._pattern.__mod__, zip(*columns, strict=True)))

    def characters(self, batch: Batch) -> int:
        """Characters of the prompts of a batch, without making them.

        :param batch: rows of which each has a value in each column
        """
        return self._fixed_characters * len(batch) + sum(map(batch.characters, self._placeholders))

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """The length of each prompt in characters.

        :param prompts: what `render_all` has made
        """
        return list(map(len, prompts))

    def missing(self, location: str, column: str, columns: Iterable[str]) -> MissingColumnError:
        """Create the error for a column of the template that has no value.

        :param location: the file or the row
        :param column: the column
        :param columns: the columns that exist
        """
        error = MissingColumnError.of(location, column, columns)
        if column in error.columns:
            text = f"{location} has no value in the column {short_name(column)!r}, which the prompt needs."
        elif self.bare:
            # By mistake, the text may be a whole prompt, so the message does not repeat it.
            text = (
                f"{location}: the prompt names no column in braces, so it must be the name of a column itself, but there "
                "is no such column. Write it as a template, such as 'Summarize: {body}'. "
                f"{hint_for(error.columns)}{list_columns(error.columns)}"
            )
        else:
            text = f"{error} The prompt needs it; write \\{{ for a plain brace."
        error.args = (text,)
        return error

    def _values(self, column: str, rows: Sequence[Row]) -> Sequence[Json]:
        values = column_of(rows, column)
        if None in values:
            raise self.missing("A row", column, rows[values.index(None)])
        return values


def _texts(values: Sequence[Json]) -> Sequence[str]:
    kinds = set(map(type, values))
    if kinds <= {str}:
        return cast("Sequence[str]", values)
    return list(map(_text, values))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
