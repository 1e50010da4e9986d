"""Broken files: their content, and what the error message must contain."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.bad_input.cases import Case
from tests.bad_input.world import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Columns = Sequence[str]
    Build = Callable[[Columns], bytes]

READERS: dict[str, tuple[str, Columns]] = {
    "BatchInferenceOperator": ("input", ["prompt"]),
    "EmbeddingOperator": ("input", ["prompt"]),
    "ClassifyOperator": ("input", ["prompt"]),
    "MemoryRagQueryOperator": ("input", ["prompt"]),
    "TrainOperator": ("input", ["input", "output"]),
    "UploadDatasetOperator": ("input", ["input", "output"]),
    "EvaluateOperator": ("input", ["input", "output"]),
    "EvaluateClassifierOperator": ("input", ["input", "output"]),
    "ClassifierTrainOperator": ("examples", ["text", "class"]),
    "EmissaryBatchInferenceOperator": ("input", ["prompt"]),
    "EmissaryUploadDatasetOperator": ("input", ["input", "output"]),
}
"""The operators that read rows: the argument for the files, and the columns that they need."""
ALL_FILES = ("BatchInferenceOperator", "UploadDatasetOperator")
"""The operators that are tested with every broken file: one that reads rows of any kind, and one that reads pairs."""
SAMPLE_STEP = 10
"""Each of the other operators is tested with every tenth broken file."""


def lines(columns: Columns, rows: int = 3) -> bytes:
    """Valid JSON Lines."""
    return b"".join(json.dumps(dict.fromkeys(columns, "spam")).encode() + b"\n" for _ in range(rows))


def table(columns: Columns, rows: int = 3) -> bytes:
    """Valid CSV."""
    return "\n".join([",".join(columns), *[",".join(["spam"] * len(columns))] * rows, ""]).encode()


def parquet(
    columns: Columns, values: Sequence[object] = ("spam",) * 3, kind: pa.DataType | None = None
) -> bytes:
    """Parquet with the same values in each column."""
    table = pa.table({column: pa.array(list(values), type=kind) for column in columns})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def between_valid(line: bytes) -> Build:
    """A valid line, a broken one, and a valid one."""
    return lambda columns: lines(columns, 1) + line + b"\n" + lines(columns, 1)


def values(text: bytes) -> Build:
    """A valid line, and one with this JSON as the value of each column."""
    return lambda columns: lines(columns, 1) + _object(columns, text) + b"\n"


def _object(columns: Columns, value: bytes) -> bytes:
    return b"{" + b", ".join(b'"' + column.encode() + b'": ' + value for column in columns) + b"}"


def record(text: bytes) -> Build:
    """A valid CSV record, and one with this as its last value."""
    return lambda columns: table(columns, 1) + b",".join([b"spam"] * (len(columns) - 1) + [text]) + b"\n"


def truncated(content_of: Build, keep: float = 0.6) -> Build:
    """The beginning of the content."""
    return lambda columns: content_of(columns)[: int(len(content_of(columns)) * keep)]


def gzipped(content_of: Build) -> Build:
    """The content, compressed with gzip."""
    return lambda columns: gzip.compress(content_of(columns), mtime=0)


def damaged(content_of: Build) -> Build:
    """The content with an inverted byte in the middle."""

    def build(columns: Columns) -> bytes:
        content = bytearray(content_of(columns))
        content[len(content) // 2] ^= 0xFF
        return bytes(content)

    return build


def many_lines(columns: Columns) -> bytes:
    """Enough rows for a compressed file whose middle is data."""
    return b"".join(
        json.dumps(dict.fromkeys(columns, f"spam {n * 7919}")).encode() + b"\n" for n in range(500)
    )


SECRET_BYTES = SECRET.encode()
MICRO = pa.timestamp("us")

BROKEN: dict[str, tuple[str, Build, str]] = {
    "latin-1 in a line": ("r.jsonl", values(b'"caf\xe9 ' + SECRET_BYTES + b'"'), "line 2"),
    "latin-1 in a record": ("r.csv", record(b"caf\xe9 " + SECRET_BYTES), "line 3"),
    "latin-1 in a header": ("r.csv", lambda columns: b"caf\xe9," + table(columns), "line 1"),
    "truncated UTF-16": ("r.csv", lambda columns: table(columns).decode().encode("utf-16")[:-1], "utf-16"),
    "UTF-16 without a mark": (
        "r.jsonl",
        lambda columns: lines(columns).decode().encode("utf-16-le"),
        "UTF-16 without a mark",
    ),
    "NUL bytes in a line": ("r.jsonl", values(b'"a\0' + SECRET_BYTES + b'"'), "line 2"),
    "a line of NUL bytes": ("r.jsonl", between_valid(b"\0" * 100), "line 2"),
    "half a surrogate pair": ("r.jsonl", values(b'"\\ud800 ' + SECRET_BYTES + b'"'), "line 2"),
    "a line that is a number": ("r.jsonl", between_valid(b"42"), "line 2"),
    "a line that is null": ("r.ndjson", between_valid(b"null"), "line 2"),
    "a line that is a list": ("r.jsonl", between_valid(b'["' + SECRET_BYTES + b'"]'), "line 2"),
    "an array of numbers": ("r.json", lambda _: b"[\n1]", "line 2"),
    "an array without an end": ("r.json", lambda columns: b"[" + _object(columns, b'"a"'), "no end"),
    "an array with a bad element": (
        "r.json",
        lambda columns: b"[\n" + _object(columns, b'"a"') + b",\n{'" + SECRET_BYTES + b"': 1}\n]",
        "line 3",
    ),
    "something after the array": (
        "r.json",
        lambda columns: b"[" + _object(columns, b'"a"') + b"] 7",
        "line 1",
    ),
    "an object over several lines without an end": (
        "r.json",
        lambda columns: json.dumps(dict.fromkeys(columns, "a"), indent=1).encode()[:-1],
        "no end",
    ),
    "a bad object over several lines": (
        "r.json",
        lambda columns: b"{\n" + _object(columns, b'"a"')[1:] + b"\n{\n'" + SECRET_BYTES + b"': 1}\n",
        "line 4",
    ),
    "columns of a table in an object": (
        "r.json",
        lambda columns: json.dumps({name: {"0": "a", "1": SECRET} for name in columns}).encode(),
        "orient='records'",
    ),
    "columns of a table in an object over several lines": (
        "r.json",
        lambda columns: json.dumps({name: {"0": "a"} for name in columns}, indent=2).encode(),
        "orient='records'",
    ),
    "text after the object": ("r.jsonl", lambda columns: _object(columns, b'"a"') + SECRET_BYTES, "line 1"),
    "two objects in a line": ("r.jsonl", lambda columns: _object(columns, b'"a"') * 2, "line 1"),
    "a truncated line": ("r.jsonl", lambda columns: lines(columns)[:-8], "line 3"),
    "NaN": ("r.jsonl", values(b"NaN"), "line 2"),
    "an infinite number": ("r.jsonl", values(b"-Infinity"), "line 2"),
    "single quotes": ("r.jsonl", values(b"'" + SECRET_BYTES + b"'"), "line 2"),
    "deep nesting": ("r.jsonl", values(b"[" * 100_000), "line 2"),
    "a null value": ("r.jsonl", values(b"null"), "line 2"),
    "a missing column": ("r.jsonl", between_valid(b'{"other": "' + SECRET_BYTES + b'"}'), "line 2"),
    "no columns": ("r.jsonl", between_valid(b"{}"), "line 2"),
    "a missing value": ("r.csv", lambda columns: b"id," + table(columns, 1) + b"spam\n", "line 2"),
    "an extra value": ("r.csv", record(b"spam," + SECRET_BYTES), "line 3"),
    "an unclosed quote": ("r.csv", record(b'"' + SECRET_BYTES), "line 3"),
    "text after a quote": ("r.csv", record(b'"a" ' + SECRET_BYTES), "line 3"),
    "an unclosed quote in the header": ("r.csv", lambda columns: b'"' + table(columns), "header"),
    "a repeated column": (
        "r.csv",
        lambda columns: f"{columns[0]},".encode() + table(columns),
        "more than once",
    ),
    "a header without names": ("r.csv", lambda _: b" ,\nspam,spam\n", "no column of the header has a name"),
    "another column": ("r.csv", lambda _: b"other\nspam\n", "Existing columns: other"),
    "another delimiter": (
        "r.csv",
        lambda columns: "^".join([*columns, "id"]).encode() + b"\na^b^c\n",
        "Existing columns",
    ),
    "only carriage returns": (
        "r.csv",
        lambda columns: table([*columns, "id"]).replace(b"\n", b"\r"),
        "r.csv",
    ),
    "a file without a header": ("r.csv", lambda _: b"\n\n", "header"),
    "an empty file": ("r.tsv", lambda _: b"", "empty"),
    "commas in a TSV": ("r.tsv", lambda columns: table([*columns, "id"]), "Existing columns"),
    "truncated gzip": ("r.jsonl.gz", truncated(gzipped(many_lines)), "gzip"),
    "gzip with a damaged byte": ("r.jsonl.gz", damaged(gzipped(many_lines)), "r.jsonl.gz"),
    "not gzip despite the suffix": ("r.csv.gz", table, "gzip"),
    "truncated gzip without the suffix": ("r.jsonl", truncated(gzipped(many_lines)), "gzip"),
    "truncated bzip2": ("r.jsonl.bz2", truncated(lambda columns: bz2.compress(many_lines(columns))), "bzip2"),
    "truncated xz": ("r.csv.xz", truncated(lambda columns: lzma.compress(table(columns, 500))), "xz"),
    "truncated zstd": (
        "r.jsonl.zst",
        truncated(lambda columns: zstandard.compress(many_lines(columns))),
        "zstd",
    ),
    "a broken line in gzip": ("r.jsonl.gz", gzipped(between_valid(b"42")), "line 2"),
    "truncated Parquet": ("r.parquet", truncated(parquet), "Parquet"),
    "Parquet without the last bytes": ("r.parquet", lambda columns: parquet(columns)[:-4], "Parquet"),
    "Parquet that is text": ("r.parquet", lines, "Parquet"),
    "Parquet that is empty": ("r.parquet", lambda _: b"", "Parquet"),
    "Parquet that is zeros": ("r.parquet", lambda _: b"PAR1" + bytes(500) + b"PAR1", "Parquet"),
    "Parquet with a name that is not UTF-8": (
        "r.parquet",
        lambda columns: parquet([*columns, "zebra"]).replace(b"zebra", b"z\xf0bra"),
        "not valid UTF-8",
    ),
    "Parquet in gzip": ("r.parquet.gz", gzipped(parquet), "gzip"),
    "Parquet with another column": ("r.parquet", lambda _: parquet(["other"]), "Existing columns: other"),
    "Parquet with NaN": ("r.parquet", lambda columns: parquet(columns, [1.5, float("nan")]), "row 1"),
    "Parquet with a null": ("r.parquet", lambda columns: parquet(columns, [SECRET, None]), "row 1"),
    "Parquet with bytes": (
        "r.parquet",
        lambda columns: parquet(columns, [SECRET_BYTES + b"\xff"]),
        "not valid UTF-8",
    ),
    "Parquet with a map of bytes": (
        "r.parquet",
        lambda columns: parquet(columns, [[(SECRET, b"\xff")]], pa.map_(pa.string(), pa.binary())),
        "not valid UTF-8",
    ),
    "Parquet with years out of range": (
        "r.parquet",
        lambda columns: parquet(columns, [2**60], MICRO),
        "years",
    ),
    "an unknown format": ("r.xlsx", lines, "r.xlsx"),
    "no format": ("rows", table, "input_format"),
}
"""Maps a defect to the file's name, its content, and a text that the message must contain."""

EMPTY: dict[str, tuple[str, Build]] = {
    "no lines": ("r.jsonl", lambda _: b""),
    "blank lines": ("r.jsonl", lambda _: b"\n \r\n\n"),
    "only a byte order mark": ("r.jsonl", lambda _: b"\xef\xbb\xbf"),
    "only a header": ("r.csv", lambda columns: table(columns, 0)),
    "gzip of nothing": ("r.jsonl.gz", gzipped(lambda _: b"")),
    "Parquet without rows": ("r.parquet", lambda columns: parquet(columns, [], pa.string())),
}
"""Files without rows. Operators that work row by row accept them; the others need rows."""


@dataclass(frozen=True, slots=True)
class FileCase:
    """A broken file and an operator that reads it.

    :param defect: what is wrong with the file
    :param case: the case
    """

    defect: str
    case: Case


def file_cases() -> list[FileCase]:
    """Return all broken files for two operators, and a sample of them for the others."""
    return [
        FileCase(defect, _case(operator, name, build, text))
        for number, (defect, (name, build, text)) in enumerate(BROKEN.items())
        for index, operator in enumerate(READERS)
        if operator in ALL_FILES or number % SAMPLE_STEP == index
    ]


def empty_cases() -> list[FileCase]:
    """Return files without rows for the operators that need rows: all for one operator, one for each other operator."""
    return [
        FileCase(defect, _case(operator, name, build, "no rows"))
        for number, (defect, (name, build)) in enumerate(EMPTY.items())
        for operator, (_, columns) in READERS.items()
        if len(columns) > 1 and (number == 0 or operator in ALL_FILES)
    ]


def _case(operator: str, name: str, build: Build, text: str) -> Case:
    argument, columns = READERS[operator]
    return Case(operator, {argument: f"{{here}}/{name}"}, (text,), {name: build(columns)})
