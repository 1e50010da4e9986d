"""Labelled texts for a classifier: inline or from files, each checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import checked
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.values import json_value, kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.corpus.pairs import Columns

_NAMED = 10
"""Unknown classes that a message names at most."""

Examples = dict[str, list[str]]
"""Class to texts that belong to it."""


def read_examples(
    given: object, columns: Columns, *, classes: Collection[str] | None = None, conn_id: str | None = None
) -> Examples:
    """Read all examples into memory: the platform takes them in one request.

    :param given: a mapping of class to texts, a list of rows, or a path, URI or glob of files with rows
    :param columns: how a row becomes a text, its input, and a class, its output
    :param classes: the classes that there are; ``None`` where that is not known
    :param conn_id: the Airflow connection to the object store
    :raises BadRowError: where examples cannot be used; it names the first of them
    :raises MissingColumnError: for files without one of the columns
    :raises InputError: for what is none of these, and where there is no example
    """
    pairs = _of_mapping(given) if isinstance(given, Mapping) else _of_rows(given, columns, conn_id)
    found: Examples = {}
    try:
        for name, text in pairs:
            found.setdefault(name, []).append(text)
    except (InputError, BadRowError) as error:
        raise type(error)(f"examples: {error}") from error
    if not found:
        raise InputError("There is no example in examples. Leave it out to train without.")
    unknown = [name for name in found if classes is not None and name not in classes]
    if unknown:
        raise BadRowError(
            f"Examples are of classes that are not among classes: {', '.join(map(repr, unknown[:_NAMED]))}. "
            "Describe them, or remove the examples; nothing was sent."
        )
    return found


def _of_mapping(given: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for name, texts in given.items():
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"there is a class {kind(name)} that is no name.")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InputError(f"what class {name!r} has is {kind(texts)}, not a list of texts.")
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise BadRowError(f"text {number} of class {name!r} (counted from 0) is empty or no text.")
            try:
                json_value({name: text})
            except ValueError as error:
                raise BadRowError(
                    f"text {number} of class {name!r} (counted from 0), or the class, {error}."
                ) from None
            yield name, text


def _of_rows(given: object, columns: Columns, conn_id: str | None) -> Iterator[tuple[str, str]]:
    for pairs in checked(open_source(given, conn_id=conn_id), columns):
        yield from ((pair.output, pair.input) for pair in pairs)
