"""Uploaded datasets: JSON Lines, a JSON array or CSV, to rows with the strings ``input`` and ``output``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_provider_lamini.local.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.api.call import Json

COLUMNS: Final = (("input", "output"), ("prompt", "completion"), ("text", "label"), ("question", "answer"))
"""Pairs of columns that a row may have: what the model reads, and what it learns to answer."""


def read_rows(content: bytes, file_name: str) -> Iterator[dict[str, Json]]:
    """Yield the rows of a file.

    :param content: its content
    :param file_name: its name; one that ends with ``.csv`` is CSV with a header
    :raises InvalidInputError: the file has no rows, or a row cannot be used; the message has its number, never its text
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError("file: it is not UTF-8 text.") from None
    number = -1
    for number, row in enumerate(_objects(text, file_name)):
        yield _pair(number, row)
    if number < 0:
        raise InvalidInputError("file: it has no rows.")


def _objects(text: str, file_name: str) -> Iterator[object]:
    if file_name.lower().endswith(".csv"):
        try:
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        except csv.Error:
            raise InvalidInputError("file: it is not valid CSV.") from None
    elif text.lstrip().startswith("["):
        try:
            yield from msgspec.json.decode(text, type=list[object])
        except (msgspec.DecodeError, RecursionError):
            raise InvalidInputError("file: it is not a valid JSON array.") from None
    else:
        yield from _lines(text)


def _lines(text: str) -> Iterator[object]:
    number = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidInputError(f"file: row {number} (counted from 0) is not valid JSON.") from None
        number += 1


def _pair(number: int, row: object) -> dict[str, Json]:
    if not isinstance(row, dict):
        raise InvalidInputError(f"file: row {number} (counted from 0) is not an object.")
    for question, answer in COLUMNS:
        if isinstance(row.get(question), str) and isinstance(row.get(answer), str):
            if not row[answer].strip():
                raise InvalidInputError(f"file: row {number} (counted from 0) has an empty {answer!r}.")
            return {"input": row[question], "output": row[answer]}
    pairs = ", or ".join(f"{question!r} and {answer!r}" for question, answer in COLUMNS)
    raise InvalidInputError(f"file: row {number} (counted from 0) lacks the texts {pairs}.")
