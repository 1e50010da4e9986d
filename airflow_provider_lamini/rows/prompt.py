"""The prompt of a row: a text with the names of columns in braces, or one column as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import msgspec

from airflow_provider_lamini.api.call import PromptList
from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import ColumnError, MissingColumnError, list_columns, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.values import Row

_TOKEN = re.compile(r"\\([{}])|\{([^\W\d]\w*(?:[ .-]+\w+)*)\}")


class PromptTemplate:
    r"""How a row becomes a prompt.

    ``{column}`` stands for the column's value. A name begins with a letter or an underscore, and goes on
    with letters, digits and underscores; single words of it may be joined by spaces, dots or hyphens. All
    else in braces stays as it is, so examples of JSON need no care: ``{"label": 1}``, ``{}`` and ``{ x }``
    are plain text. ``\{`` and ``\}`` are braces in any case. A text without any placeholder is the name of
    the column that holds the whole prompt.

    Texts stand in the prompt as they are; numbers, flags, lists and mappings as JSON.

    :param pieces: the plain text before each column, and after the last one
    :param columns: the columns, in the order of their placeholders
    :param bare: whether the text was the name of a column
    """

    def __init__(self, pieces: Sequence[str], columns: Sequence[str], *, bare: bool) -> None:
        self.bare = bare
        self._places = tuple(columns)
        self.columns = tuple(dict.fromkeys(columns))
        """The columns that a row needs, each once."""
        self._around = (pieces[0], pieces[1]) if len(pieces) == 2 else None  # noqa: PLR2004 - one column between
        self._pattern = "%s".join(piece.replace("%", "%%") for piece in pieces)

    @classmethod
    def parse(cls, text: object) -> PromptTemplate:
        """Read a template.

        :param text: the template, or the name of a column
        :raises ColumnError: for what is not a text, or an empty one
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
        return cls(pieces, columns, bare=False) if columns else cls(("", ""), [text], bare=True)

    def render(self, row: Row) -> str:
        """The prompt of one row.

        :raises MissingColumnError: for a row without one of the columns, or without a value in it
        """
        values = []
        for column in self._places:
            value = row.get(column)
            if value is None:
                raise self.missing("The row", column, row)
            values.append(_text(value))
        return self._pattern % tuple(values)

    def render_all(self, rows: Sequence[Row]) -> PromptList:
        """The prompts of many rows, much faster than one by one.

        :param rows: the rows
        :raises MissingColumnError: for the first row without a value that is needed
        """
        columns = [_texts(self._values(column, rows)) for column in self._places]
        if self._around is not None:
            head, tail = self._around
            if head or tail:
                return PromptList([f"{head}{text}{tail}" for text in columns[0]])
            return PromptList(columns[0])
        return PromptList(map(self._pattern.__mod__, zip(*columns, strict=True)))

    def missing(self, place: str, column: str, available: Iterable[str]) -> MissingColumnError:
        """What to say where a column of the template has no value.

        :param place: the file or the row
        :param column: the column
        :param available: the columns that are there
        """
        error = MissingColumnError.of(place, column, available)
        if column in error.columns:
            text = f"{place} has no value in the column {short_name(column)!r}, which the prompt needs."
        elif self.bare:
            # The text may be a whole prompt by mistake: it is not repeated.
            text = (
                f"{place}: the prompt names no column in braces, so it should be the name of a column "
                "itself, but none is called so. Write it as a template, such as 'Summarize: {body}'. "
                f"{list_columns(error.columns)}"
            )
        else:
            text = f"{error} The prompt needs it; write \\{{ for a brace that is meant as text."
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
