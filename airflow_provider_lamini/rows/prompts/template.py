"""Prompt templates: a text with column names in braces, or the name of one column."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, ClassVar, Self, cast

import msgspec

from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import ColumnError, MissingColumnError, list_columns
from airflow_provider_lamini.rows.prompts.conversation import hint_for
from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.values import Row

_BRACES = re.compile(r"\\([{}])|\{([^{}\n]{1,200})\}")
_NAME = re.compile(r"[^\W\d]\w*(?:[ .-]+\w+)*")
"""Always stands for a column."""
_ODD_NAME = re.compile(r"[^\W\d][\w./-]*(?: ?[&%/?]| \([\w %$\u20ac\u00a3/.-]+\)|[ ./-]+[\w./-]+)+")
"""A header such as ``Price (USD)`` or ``What is your name?``."""
_FORMAT = re.compile(
    r"[^\W\d][\w.]*(?:!(?:[rsa])(?::.*)?|(?:\[[^\[\]]*\])+(?:\.\w+|\[[^\[\]]*\])*|:(?=[^ ]*[<>^=,.%])\S+)"
    r"|[^\W\d]\w+:[dfs]|[^\W\d]\w*:\d+[df]|\d+:(?:[<>^]\d+[a-z]?|,|\d*,?\.\d+[defg%])"
)
"""A field as in Python's ``str.format``, with a conversion, an index or a format. ``{a:d}`` and ``{1:2.5}`` may be code."""
_BASE = re.compile(r"\s*([^:!\[|=]+?)\s*(?:![rsa].*|\[.*|:\S*|\|.*|=|\.\w+\(.*\))?")
"""What may be a column, before a conversion, an index, a format, a filter of Jinja, or what an f-string may have."""
_DOUBLE = re.compile(r"(?<![{\\])\{\{([^{}\n]+)\}\}(?!\})")
_FILE = re.compile(r"\S+\.(?:txt|md|j2|jinja2)")


class PromptTemplate:
    r"""Makes the prompt of a row.

    ``{column}`` stands for the value of a column. What stands between braces is compared with the columns of the input
    (`for_columns`): if it is exactly the name of a column, such as ``{Price (USD)}``, it stands for that column. If it looks
    like a placeholder but is not a column, such as ``{score:.2f}``, ``{ body }`` or ``{tags[0]}``, the template is refused.
    Other braces are plain text, so JSON in a prompt needs no escaping: ``{"label": 1}`` and ``{}`` stay as they are.
    ``\{`` and ``\}`` are always plain braces. A text without placeholders is the name of the column with the whole prompt.

    Texts are inserted as they are; numbers, flags, lists and mappings as JSON.

    :param text: the template as the user wrote it
    :param pieces: the plain text before each placeholder, and after the last one
    :param columns: the column of each placeholder
    :param bare: whether the text is the name of a column
    """

    _called: ClassVar[str] = "The prompt"
    """What messages call the template."""
    _may_be_column: ClassVar[bool] = True
    """Whether a text without placeholders is the name of a column."""

    def __init__(self, text: str, pieces: Sequence[str], columns: Sequence[str], *, bare: bool) -> None:
        self.text = text
        self.bare = bare
        self.pieces = tuple(pieces)
        """The plain text before each placeholder, and after the last one."""
        self.placeholders = tuple(columns)
        """The column of each placeholder."""
        self.columns = tuple(dict.fromkeys(columns))
        """The columns that the prompt needs, each once."""
        self._fixed_characters = sum(map(len, pieces))
        self.text_columns = self.columns
        """The columns of which at least one must not be blank."""
        self.optional_columns: tuple[str, ...] = ()
        """Columns that are read as well, and need not have a value in each row."""
        self.may_refuse = False
        """Whether a row may be refused although each column that the prompt needs has a value."""
        self.takes_conversations = False
        """Whether the value of a column may be a conversation."""
        self._around = (pieces[0], pieces[1]) if len(pieces) == 2 else None  # noqa: PLR2004 - one column between
        self.is_one_value = self._around == ("", "")
        """Whether a prompt is the value of one column and nothing else."""
        self._pattern = "%s".join(piece.replace("%", "%%") for piece in pieces)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a template whose columns are not known yet.

        :param text: the template, or the name of a column
        :raises ColumnError: if it is not a text, or empty, or has a name in double braces
        """
        if not isinstance(text, str) or not text.strip():
            raise ColumnError(
                "The prompt must be a text with columns in braces, such as 'Summarize: {body}', or the "
                "name of a column."
            )
        for content in _DOUBLE.findall(text):
            if _NAME.fullmatch(content):
                shown = short_name(content)
                raise ColumnError(
                    f"{cls._called} has {{{{{shown}}}}}: double braces belong to Jinja, and nothing has rendered them. Write "
                    f"{{{shown}}} for the column, or \\{{{shown}\\}} for plain braces."
                )
        return cls._of(text, frozenset())

    @property
    def needs_columns(self) -> bool:
        """Whether only the columns of the input decide what some of the braces mean."""
        contents = (content for _, content in _BRACES.findall(self.text) if content)
        return any(not _NAME.fullmatch(content) for content in contents)

    def for_columns(self, columns: Collection[str]) -> PromptTemplate:
        """The template for an input.

        :param columns: the columns of the input
        :raises ColumnError: if a brace looks like a placeholder, but is not a column
        """
        if not columns:
            return self
        if self._may_be_column and self.text in columns:
            return self if self.bare else self._of(self.text, frozenset(), bare=True)
        known = frozenset(columns)
        for _, content in _BRACES.findall(self.text):
            if content and content not in known and not _NAME.fullmatch(content):
                _check_text(self._called, content, columns)
        return self._of(self.text, known)

    @classmethod
    def _of(cls, text: str, known: Collection[str], *, bare: bool = False) -> Self:
        pieces = [""]
        columns = []
        end = 0
        for token in () if bare else _BRACES.finditer(text):
            brace, content = token.groups()
            if content and content not in known and not _NAME.fullmatch(content):
                continue
            pieces[-1] += text[end : token.start()] + (brace or "")
            if content:
                columns.append(content)
                pieces.append("")
            end = token.end()
        pieces[-1] += text[end:]
        if columns or not cls._may_be_column:
            return cls(text, pieces, columns, bare=False)
        return cls(text, ("", ""), [text], bare=True)

    def render(self, row: Row) -> str:
        """Make the prompt of one row.

        :raises MissingColumnError: if the row has no value in one of the columns
        """
        values = []
        for column in self.placeholders:
            value = row.get(column)
            if value is None:
                raise self.missing("The row", column, row)
            values.append(_text(value))
        return self._pattern % tuple(values)

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        """Make the prompts of many rows, much faster than one by one.

        :param rows: the rows
        :raises MissingColumnError: for the first row without a value in one of the columns
        """
        columns = [_texts(self._values(column, rows)) for column in self.placeholders]
        if self._around is not None:
            head, tail = self._around
            if head or tail:
                return [f"{head}{text}{tail}" for text in columns[0]]
            return list(columns[0])
        return list(map(self._pattern.__mod__, zip(*columns, strict=True)))

    def characters(self, batch: Batch) -> int:
        """Characters of the prompts of a batch, without making them.

        :param batch: rows of which each has a value in each column
        """
        return self._fixed_characters * len(batch) + sum(map(batch.characters, self.placeholders))

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
        similar = similar_column(column, error.columns)
        hint = f" Did you mean {short_name(similar)!r}?" if similar is not None else ""
        if column in error.columns:
            text = f"{location} has no value in the column {short_name(column)!r}, which the prompt needs."
        elif self.bare and names_prompt_file(column):
            text = (
                f"{location}: the prompt is neither the name of a column nor of a file in the Dag's folder. "
                f"{list_columns(error.columns)}{hint}"
            )
        elif self.bare:
            # By mistake, the text may be a whole prompt, so the message does not repeat it.
            text = (
                f"{location}: the prompt names no column in braces, so it must be the name of a column itself, but there "
                "is no such column. Write it as a template, such as 'Summarize: {body}'. "
                f"{hint_for(error.columns)}{list_columns(error.columns)}{hint}"
            )
        else:
            text = f"{error}{hint} The prompt needs it; write \\{{ for a plain brace."
        error.args = (text,)
        return error

    def _values(self, column: str, rows: Sequence[Row]) -> Sequence[Json]:
        values = column_of(rows, column)
        if None in values:
            raise self.missing("A row", column, rows[values.index(None)])
        return values


class TextTemplate(PromptTemplate):
    """A system prompt: a template like a prompt, except that it never is the name of a column."""

    _called = "The system prompt"
    _may_be_column = False

    @property
    def constant(self) -> bool:
        """Whether the text is the same for every row, whatever the columns of the input are."""
        return not self.placeholders and not self.needs_columns


def names_prompt_file(text: str) -> bool:
    """Whether a text is the name of a file with a prompt, such as ``prompts/summary.txt``.

    :param text: the text
    """
    return _FILE.fullmatch(text) is not None


def similar_column(name: str, columns: Iterable[str]) -> str | None:
    """The column whose name differs only in case, blanks, hyphens, underscores or quotes; ``None`` if there is none.

    :param name: the name that is not a column
    :param columns: the columns that exist
    """
    wanted = _plain(name)
    return next((column for column in columns if _plain(column) == wanted), None) if wanted else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-\"'\u2018-\u201f]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _check_text(called: str, content: str, columns: Iterable[str]) -> None:
    """Make sure that the content of a brace, which is not a column, does not look like a placeholder.

    :raises ColumnError: if it does; the message names it, because it is a part of a column's name or a field
    """
    shown = short_name(content)
    base = _BASE.fullmatch(content)
    similar = similar_column(content, columns)
    if similar is None and base is not None:
        similar = similar_column(base[1], columns)
    if similar is not None:
        raise ColumnError(
            f"{called} has {{{shown}}}, which is not the name of a column. Did you mean {{{short_name(similar)}}}? "
            "Formats, conversions and indexes are not supported; write \\{ for a plain brace."
        )
    bare = content.strip()
    if _FORMAT.fullmatch(bare) or _ODD_NAME.fullmatch(bare) or (bare != content and _NAME.fullmatch(bare)):
        raise ColumnError(
            f"{called} has {{{shown}}}, which looks like a placeholder but is not the name of a column. "
            f"{list_columns(tuple(columns))} Write \\{{ for a plain brace."
        )


def _texts(values: Sequence[Json]) -> Sequence[str]:
    kinds = set(map(type, values))
    if kinds <= {str}:
        return cast("Sequence[str]", values)
    return list(map(_text, values))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
