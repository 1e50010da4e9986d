"""How a CSV file is written: what the user says, and what its first lines make certain."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.sources.options import CsvOptions

NULL = "\ue000N"
"""Stands for the null value of databases that escape with a backslash, which the CSV parser would read as ``N``."""

STATED_DELIMITER = re.compile(r"(?i)\"?sep=([^\w\r\n])\"?\r?\n")
"""The line before the header that names the delimiter for Excel."""

_DELIMITERS = (",", ";", "\t", "|")
_RECORDS = 50
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """The dialect of one file.

    :param delimiter: the character between two values
    :param quote: the character around values; ``None`` if there is none
    :param escape: the escape character; ``None`` if there is none
    :param skip_blanks: whether blanks after a delimiter do not belong to the value
    """

    delimiter: str
    quote: str | None
    escape: str | None
    skip_blanks: bool = False

    def records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Parse lines.

        :param lines: lines with their ends
        :raises csv.Error: for the first line that cannot be parsed
        """
        return iter(
            csv.reader(
                lines,
                delimiter=self.delimiter,
                quotechar=self.quote,
                quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
                escapechar=self.escape,
                skipinitialspace=self.skip_blanks,
                strict=True,
            )
        )

    def protect_nulls(self, line: str) -> str:
        r"""Replace values that are ``\N``, if the backslash is the escape character.

        :param line: a line
        """
        if self.escape != "\\" or "\\N" not in line:
            return line
        at = re.escape(self.delimiter)
        return re.sub(rf"(?:(?<={at})|^)\\N(?=(?:{at}|\r?\n?$))", lambda _: NULL, line)

    @property
    def can_shrink(self) -> bool:
        """Whether `shrink` finds the characters that separate values in any piece of a line."""
        return all(len(character.encode()) == 1 for character in self._structure)

    def shrink(self, piece: bytes) -> bytes:
        """A piece of a line with as many values and quotation marks, but without their content.

        :param piece: the piece, which may begin and end anywhere
        """
        kept = re.escape(self._structure.encode())
        return re.sub(rb" +", b" ", re.sub(rb"[^" + kept + rb" \r\n]+", b"x", piece))

    @property
    def _structure(self) -> str:
        return f"{self.delimiter}{self.quote or ''}{self.escape or ''}"

    @property
    def special(self) -> tuple[bytes, ...]:
        """The characters without which each line is a record."""
        return tuple(character.encode() for character in (self.quote, self.escape) if character)


def dialect_of(sample: str, options: CsvOptions, default: str | None) -> tuple[CsvDialect, list[str]]:
    """The dialect of a file.

    :param sample: the beginning of the file, as complete lines
    :param options: what the user says
    :param default: the delimiter that the file's name says; ``None`` if it says none
    :return: the dialect, and what was sniffed, for the log
    """
    remarks: list[str] = []
    stated = STATED_DELIMITER.match(sample)
    delimiter = options.delimiter or (stated[1] if stated else default)
    if stated:
        remarks.append(f"delimiter {stated[1]!r}, as its first line says")
    if delimiter is None:
        delimiter = sniff_delimiter(sample, options)
        if delimiter != ",":
            remarks.append(f"delimiter {_NAMES[delimiter]}")
    skip = False
    if options.quote:
        before_quote = rf"(?:^|{re.escape(delimiter)})[ \t]+{re.escape(options.quote)}"
        skip = delimiter != "\t" and re.search(before_quote, sample, re.MULTILINE) is not None
    if skip:
        remarks.append("blanks before quotes ignored")
    return CsvDialect(delimiter, options.quote, options.escape, skip), remarks


def sniff_delimiter(sample: str, options: CsvOptions) -> str:
    """The delimiter of a file, where its first lines make it certain; else a comma.

    It is certain if the header has several names with exactly one delimiter, and not with a comma, and most lines as many
    values, or fewer, because values may be missing at the end of a line. The other lines may be bad rows.

    :param sample: the beginning of the file, as complete lines
    :param options: what the user says
    """
    fitting = [delimiter for delimiter in _DELIMITERS if _fits(sample, delimiter, options)]
    return fitting[0] if len(fitting) == 1 or fitting[:1] == [","] else ","


def _fits(sample: str, delimiter: str, options: CsvOptions) -> bool:
    dialect = CsvDialect(delimiter, options.quote, options.escape, skip_blanks=True)
    widths: list[int] = []
    try:
        for record in dialect.records(io.StringIO(sample, newline="\n")):
            if record:
                # Only the rows may end with a delimiter.
                while widths and len(record) > widths[0] and not record[-1].strip():
                    record.pop()
                widths.append(len(record))
            if len(widths) == _RECORDS:
                break
    except csv.Error:
        # The last record of a sample may be cut off; the first ones count.
        widths = widths if len(widths) > 1 else []
    fitting = [width for width in widths if 1 < width <= widths[0]]
    return 2 * len(fitting) > len(widths) and widths[0] > 1


def is_empty(values: Sequence[str]) -> bool:
    """Whether none of some values says anything."""
    return not any(map(str.strip, values))
