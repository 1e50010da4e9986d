"""Labelled texts for a classifier, inline or from files. All are validated before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import validated_pairs
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.forms import is_result
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.values import json_value, kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.corpus.pairs import Columns
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.rows.sources.source import Source

_NAMED = 10
"""Maximum number of unknown classes in a message."""

Examples = dict[str, list[str]]
"""Maps each class to its texts."""


def read_examples(
    value: object,
    columns: Columns,
    *,
    classes: Collection[str] | None = None,
    conn_id: str | None = None,
    options: InputOptions | None = None,
) -> Examples:
    """Read all examples into memory: the platform takes them in one request.

    :param value: a mapping of class to texts, a list of rows, or a path, URI or glob of files with rows
    :param columns: make the text (input) and the class (output) of a row
    :param classes: the existing classes; ``None`` if they are not known
    :param conn_id: the Airflow connection to the object store
    :param options: how to read them
    :raises BadRowError: if examples cannot be used; it names the first ones
    :raises MissingColumnError: if a file lacks a column
    :raises InputError: if the value is of another type, or there are no examples
    """
    found: Examples = {}
    try:
        if isinstance(value, Mapping) and not is_result(value):
            pairs = _from_mapping(value)
        else:
            pairs = _from_rows(open_source(value, conn_id=conn_id, options=options), columns)
        for name, text in pairs:
            found.setdefault(name, []).append(text)
    except (InputError, BadRowError) as error:
        raise type(error)(f"examples: {error}") from error
    if not found:
        raise InputError("examples contains no example. Leave it out to train without examples.")
    unknown = [name for name in found if classes is not None and name not in classes]
    if unknown:
        raise BadRowError(
            f"Examples belong to classes that are not in classes: {', '.join(map(repr, unknown[:_NAMED]))}. "
            "Describe these classes, or remove the examples; nothing was sent."
        )
    return found


def _from_mapping(value: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for name, texts in value.items():
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"a class is {kind(name)}, not a name.")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InputError(f"class {name!r} has a value {kind(texts)}, not a list of texts.")
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise BadRowError(f"text {number} of class {name!r} (counted from 0) is empty or not a text.")
            try:
                json_value({name: text})
            except ValueError as error:
                raise BadRowError(
                    f"text {number} of class {name!r} (counted from 0), or the class, {error}."
                ) from None
            yield name, text


def _from_rows(source: Source, columns: Columns) -> Iterator[tuple[str, str]]:
    for pairs in validated_pairs(source, columns):
        yield from ((pair.output, pair.input) for pair in pairs)
