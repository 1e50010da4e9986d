"""How an input is to be read, where its form alone does not say it."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.values import kind

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "txt")
FAILED_ROWS = ("skip", "fail", "only")
NULL_VALUES = ("\\N", "NULL")
"""Texts that stand for a missing value in the CSV exports of databases."""

_KEYS = ("delimiter", "encoding", "escape", "quote", "null_values", "header")


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How CSV and TSV files are written.

    :param delimiter: the character between two values; ``None`` for a tab in TSV, and for what `sniff_delimiter` finds in CSV
    :param encoding: the character encoding
    :param escape: the character that takes the special meaning from the next one; ``None`` if quotes are doubled instead
    :param quote: the character around values with delimiters or line breaks; ``None`` if there is none
    :param null_values: texts that stand for a missing value
    :param header: the names of the columns, if the file has no header line
    """

    delimiter: str | None = None
    encoding: str = "utf-8"
    escape: str | None = None
    quote: str | None = '"'
    null_values: tuple[str, ...] = NULL_VALUES
    header: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, value: object) -> CsvOptions:
        """Validate ``csv_options``.

        :param value: a mapping of the names above to values, or ``None``
        :raises InputError: if it is anything else
        """
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise InputError(f"csv_options is {kind(value)}. Pass a mapping, such as {{'delimiter': ';'}}.")
        unknown = [key for key in value if key not in _KEYS]
        if unknown:
            raise InputError(f"csv_options has {unknown[0]!r}, which is not one of {', '.join(_KEYS)}.")
        default = cls()
        nulls, header = value.get("null_values"), value.get("header")
        return cls(
            delimiter=_character("delimiter", value.get("delimiter")),
            encoding=_encoding(value.get("encoding", default.encoding)),
            escape=_character("escape", value.get("escape")),
            quote=_character("quote", value.get("quote", default.quote)),
            null_values=default.null_values if nulls is None else _texts("csv_options['null_values']", nulls),
            header=None if header is None else _texts("csv_options['header']", header),
        )


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The arguments of a task that say how to read its input.

    :param columns: names for rows that are sequences of values, such as those of a database
    :param format: the format of all files; ``None`` if their names or contents tell it
    :param csv: how CSV files are written
    :param failed_rows: what to do with the failed rows of an earlier run that is the input: ``skip`` them, ``fail``, or take
        ``only`` these
    """

    columns: tuple[str, ...] | None = None
    format: str | None = None
    csv: CsvOptions = field(default_factory=CsvOptions)
    failed_rows: str = "skip"

    @classmethod
    def parse(
        cls,
        *,
        columns: object = None,
        input_format: object = None,
        csv_options: object = None,
        failed_rows: object = "skip",
    ) -> InputOptions:
        """Validate the arguments.

        :param columns: a list of names, or ``None``
        :param input_format: one of `FORMATS`, or ``None``
        :param csv_options: a mapping (`CsvOptions.parse`), or ``None``
        :param failed_rows: one of `FAILED_ROWS`
        :raises InputError: if one is anything else
        """
        if input_format is not None and input_format not in FORMATS:
            raise InputError(f"input_format must be one of {', '.join(FORMATS)}.")
        if failed_rows not in FAILED_ROWS:
            raise InputError(f"failed_input_rows must be one of {', '.join(FAILED_ROWS)}.")
        return cls(
            columns=None if columns is None else _texts("columns", columns, unique=True),
            format=None if input_format is None else str(input_format),
            csv=CsvOptions.parse(csv_options),
            failed_rows=str(failed_rows),
        )

    def changed(self) -> dict[str, object]:
        """The options that differ from the defaults, as plain values."""
        default = asdict(InputOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def _texts(name: str, value: object, *, unique: bool = False) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{name} is {kind(value)}. Pass a list of texts.")
    if not all(isinstance(item, str) for item in value):
        raise InputError(f"{name} has an entry that is not a text.")
    if unique and (not value or not all(value) or len(set(value)) < len(value)):
        raise InputError(f"{name} must have at least one name, no empty name, and no name twice.")
    return tuple(value)


def _character(name: str, value: object) -> str | None:
    if value is None:
        return None
    if value == "\\t":  # as a template, or a form, spells it
        return "\t"
    if not isinstance(value, str) or len(value) != 1 or value in "\r\n" or not value.isascii():
        raise InputError(f"csv_options[{name!r}] must be a single ASCII character.")
    return value


def _encoding(value: object) -> str:
    try:
        "a".encode(value)  # type: ignore[arg-type] # it rejects anything but the name of an encoding of text
        return codecs.lookup(value).name  # type: ignore[arg-type]
    except (LookupError, TypeError, ValueError):
        raise InputError(
            "csv_options['encoding'] must be the name of an encoding, such as 'cp1252' or 'utf-16'."
        ) from None
