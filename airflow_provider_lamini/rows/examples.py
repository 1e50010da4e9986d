"""Labelled texts for a classifier: inline or from files, each checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import BadRowError, InputError, MissingColumnError
from airflow_provider_lamini.rows.source import open_source
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_lamini.rows.batch import Row

_NAMED = 10
"""Bad rows that a message names at most."""

Examples = dict[str, list[str]]
"""Class to texts that belong to it."""


def read_examples(
    given: object,
    *,
    text_column: str,
    class_column: str,
    classes: Collection[str] | None = None,
    conn_id: str | None = None,
) -> Examples:
    """Read all examples into memory: the platform takes them in one request.

    :param given: a mapping of class to texts, a list of rows, or a path, URI or glob of files with rows
    :param text_column: the column of a row's text
    :param class_column: the column of its class
    :param classes: the classes that there are; ``None`` where that is not known
    :param conn_id: the Airflow connection to the object store
    :raises BadRowError: where examples cannot be used; it names the first of them
    :raises MissingColumnError: for rows without one of the columns
    :raises InputError: for what is none of these, and where there is no example
    """
    found = _Found(classes)
    if isinstance(given, Mapping):
        for name, texts in given.items():
            if isinstance(texts, str) or not isinstance(texts, Sequence):
                raise InputError(f"examples: what class {name!r} has is {kind(texts)}, not a list of texts.")
            for number, text in enumerate(texts):
                found.add(f"text {number} of class {name!r}", name, text)
    else:
        source = open_source(given, conn_id=conn_id)
        for each in source.read(columns=(text_column, class_column)):
            for column in (text_column, class_column):
                if column not in each.row:
                    raise MissingColumnError.of(each.batch.where(each.offset), column, each.row)
            found.add(each.batch.where(each.offset), *_both(each.row, class_column, text_column))
    return found.all()


def _both(row: Row, class_column: str, text_column: str) -> tuple[object, object]:
    name = row[class_column]
    # A number as a class is common in tables.
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name, row[text_column]


class _Found:
    """Collects examples, and what is wrong with others.

    :param classes: the classes that there are; ``None`` where that is not known
    """

    def __init__(self, classes: Collection[str] | None) -> None:
        self._classes = classes
        self._texts: Examples = {}
        self._bad: list[str] = []
        self._bad_count = 0

    def add(self, place: str, name: object, text: object) -> None:
        """Take an example.

        :param place: where it stands, for a message
        :param name: its class
        :param text: its text
        """
        problem = self._problem(name, text)
        if problem is None:
            self._texts.setdefault(str(name), []).append(str(text))
            return
        self._bad_count += 1
        if len(self._bad) < _NAMED:
            self._bad.append(f"{place} {problem}")

    def all(self) -> Examples:
        """The examples, by class.

        :raises BadRowError: where some cannot be used
        :raises InputError: where there is none
        """
        if self._bad:
            more = f"; and {self._bad_count - _NAMED} more" if self._bad_count > _NAMED else ""
            raise BadRowError(
                f"{self._bad_count} example(s) cannot be used: {'; '.join(self._bad)}{more}. Correct or remove them; "
                "nothing was sent."
            )
        if not self._texts:
            raise InputError(
                "There is no example in what examples names. Leave it out to train without examples."
            )
        return self._texts

    def _problem(self, name: object, text: object) -> str | None:
        if not isinstance(name, str) or not name.strip():
            return "has no class"
        if self._classes is not None and name not in self._classes:
            return f"is of a class that is not among classes: {name[:100]!r}"
        if not isinstance(text, str) or not text.strip():
            return "has no text"
        return None
