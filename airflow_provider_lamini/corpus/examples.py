"""Labelled texts for a classifier, inline or from files. All are validated before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.corpus.pairs import REFUSE, PairReader
from airflow_provider_lamini.rows.bad_rows import BadRows
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.sources.forms import is_result
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.texts import is_blank
from airflow_provider_lamini.rows.values import json_value
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_lamini.corpus.pairs import Columns
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.rows.sources.options import InputOptions

_NAMED = 10
"""Maximum number of unknown classes in a message."""

Examples = dict[str, list[str]]
"""Maps each class to its texts."""


class ReadExamples(NamedTuple):
    """Examples, and what was left out of them.

    :param by_class: each class with its texts
    :param bad: rows or texts that cannot be used
    :param found: what was read, for the log
    """

    by_class: Examples
    bad: BadRows
    found: str


def read_examples(
    value: object,
    columns: Columns,
    *,
    classes: Collection[str] | None = None,
    conn_id: str | None = None,
    options: InputOptions | None = None,
    policy: BadRowPolicy = REFUSE,
) -> ReadExamples:
    """Read all examples into memory: the platform takes them in one request.

    :param value: a mapping of class to texts, a list of rows, or a path, URI or glob of files with rows
    :param columns: make the text (input) and the class (output) of a row
    :param classes: the existing classes; ``None`` if they are not known
    :param conn_id: the Airflow connection to the object store
    :param options: how to read them
    :param policy: what becomes of rows and texts that cannot be used
    :raises BadRowError: if examples cannot be used; it names the first ones
    :raises MissingColumnError: if a file lacks a column
    :raises InputError: if the value is of another type, or there are no examples
    """
    try:
        if isinstance(value, Mapping) and not is_result(value):
            examples = _of_mapping(value, policy)
        else:
            source = open_source(value, conn_id=conn_id, keep_bad=policy.keep, options=options)
            examples = _of_rows(PairReader(source, columns, policy))
    except (InputError, BadRowError) as error:
        raise type(error)(f"examples: {error}") from error.__cause__
    if not examples.by_class:
        raise InputError("examples contains no example. Leave it out to train without examples.")
    unknown = [name for name in examples.by_class if classes is not None and name not in classes]
    if unknown:
        raise BadRowError(
            f"Examples belong to classes that are not in classes: {', '.join(map(repr, unknown[:_NAMED]))}. "
            "Describe these classes, or remove the examples; nothing was sent."
        )
    return examples


def _of_rows(reader: PairReader) -> ReadExamples:
    found: Examples = {}
    for pair in chain.from_iterable(reader.read()):
        found.setdefault(pair.output, []).append(pair.input)
    return ReadExamples(found, reader.bad, reader.describe())


def _of_mapping(value: Mapping[object, object], policy: BadRowPolicy) -> ReadExamples:
    found: Examples = {}
    bad, total = BadRows(), 0
    for name, texts in value.items():
        if not isinstance(name, str) or not name.strip():
            raise InputError("the name of a class must be a text that is not empty.")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise InputError(f"class {name!r} must have a list of texts.")
        for number, text in enumerate(texts):
            total += 1
            failure = _problem(name, number, text)
            if failure is None:
                found.setdefault(name, []).append(text)
            elif policy.keep:
                bad.add_one(failure)
            else:
                raise BadRowError(f"{failure.text}.")
    policy.check_used(bad, total, "the mapping")
    texts = [text for texts in found.values() for text in texts]
    characters = counted(sum(map(len, texts)), "character")
    return ReadExamples(
        found, bad, f"a mapping: {counted(len(texts), 'text')}, {characters}, {bad.verdict()}."
    )


def _problem(name: str, number: int, text: object) -> RowFailure | None:
    where = f"text {number} of class {name!r} (counted from 0)"
    if text is None or is_blank(text):
        return RowFailure(FailureReason.NO_PROMPT, f"{where} is empty or not a text")
    if not isinstance(text, str):
        return RowFailure(FailureReason.BAD_ROW, f"{where} is empty or not a text")
    try:
        json_value({name: text})
    except ValueError as error:
        return RowFailure(FailureReason.BAD_ROW, f"{where}, or the name of the class, {error}")
    return None
