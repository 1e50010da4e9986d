"""Files that are no good: what is in them, and what the error has to say."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

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
}
"""Operators that read files of rows: by which argument, and the columns that they need."""


def lines(columns: Columns, rows: int = 3) -> bytes:
    """Good JSON Lines."""
    return b"".join(json.dumps(dict.fromkeys(columns, "spam")).encode() + b"\n" for _ in range(rows))


def table(columns: Columns, rows: int = 3) -> bytes:
    """Good CSV."""
    return "\n".join([",".join(columns), *[",".join(["spam"] * len(columns))] * rows, ""]).encode()


def parquet(
    columns: Columns, values: Sequence[object] = ("spam",) * 3, kind: pa.DataType | None = None
) -> bytes:
    """Parquet, with the values in each column."""
    made = pa.table({column: pa.array(list(values), type=kind) for column in columns})
    file = io.BytesIO()
    pq.write_table(made, file)
    return file.getvalue()


def after_good(line: bytes) -> Build:
    """A good line, then a bad one."""
    return lambda columns: lines(columns, 1) + line + b"\n" + lines(columns, 1)


def values(text: bytes) -> Build:
    """A good line of JSON, then one with this as the value of each column."""
    return lambda columns: lines(columns, 1) + _object(columns, text) + b"\n"


def _object(columns: Columns, value: bytes) -> bytes:
    return b"{" + b", ".join(b'"' + column.encode() + b'": ' + value for column in columns) + b"}"


def record(text: bytes) -> Build:
    """A good record of CSV, then one with this as its last value."""
    return lambda columns: table(columns, 1) + b",".join([b"spam"] * (len(columns) - 1) + [text]) + b"\n"


def cut(whole: Build, keep: float = 0.6) -> Build:
    """Only the beginning."""
    return lambda columns: whole(columns)[: int(len(whole(columns)) * keep)]


def zipped(whole: Build) -> Build:
    """Compressed."""
    return lambda columns: gzip.compress(whole(columns), mtime=0)


def damaged(whole: Build) -> Build:
    """With a byte turned over, in the middle."""

    def build(columns: Columns) -> bytes:
        content = bytearray(whole(columns))
        content[len(content) // 2] ^= 0xFF
        return bytes(content)

    return build


def many(columns: Columns) -> bytes:
    """Enough for a compressed file that has a middle."""
    return b"".join(
        json.dumps(dict.fromkeys(columns, f"spam {n * 7919}")).encode() + b"\n" for n in range(500)
    )


SECRETLY = SECRET.encode()
MICRO, NANO = pa.timestamp("us"), pa.timestamp("ns")

BROKEN: dict[str, tuple[str, Build, str]] = {
    "latin-1 in a line": ("r.jsonl", values(b'"caf\xe9 ' + SECRETLY + b'"'), "line 2"),
    "latin-1 in a record": ("r.csv", record(b"caf\xe9 " + SECRETLY), "line 3"),
    "latin-1 in a header": ("r.csv", lambda columns: b"caf\xe9," + table(columns), "line 1"),
    "UTF-16 lines": ("r.jsonl", lambda columns: lines(columns).decode().encode("utf-16"), "UTF-16"),
    "UTF-16 records": ("r.csv", lambda columns: table(columns).decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (
        "r.jsonl",
        lambda columns: lines(columns).decode().encode("utf-16-le"),
        "line 1",
    ),
    "NUL bytes in a line": ("r.jsonl", values(b'"a\0' + SECRETLY + b'"'), "line 2"),
    "NUL bytes for lines": ("r.jsonl", after_good(b"\0" * 100), "line 2"),
    "half a surrogate pair": ("r.jsonl", values(b'"\\ud800 ' + SECRETLY + b'"'), "line 2"),
    "a number for a line": ("r.jsonl", after_good(b"42"), "line 2"),
    "null for a line": ("r.ndjson", after_good(b"null"), "line 2"),
    "a list for a line": ("r.jsonl", after_good(b'["' + SECRETLY + b'"]'), "line 2"),
    "one list of all rows": ("r.json", lambda columns: b"[" + _object(columns, b'"a"') + b"]", "line 1"),
    "one object over lines": (
        "r.json",
        lambda columns: json.dumps(dict.fromkeys(columns, "a"), indent=1).encode(),
        "line 1",
    ),
    "something after the object": ("r.jsonl", lambda columns: _object(columns, b'"a"') + SECRETLY, "line 1"),
    "two objects in a line": ("r.jsonl", lambda columns: _object(columns, b'"a"') * 2, "line 1"),
    "a line that is cut off": ("r.jsonl", lambda columns: lines(columns)[:-8], "line 3"),
    "NaN": ("r.jsonl", values(b"NaN"), "line 2"),
    "an infinite number": ("r.jsonl", values(b"-Infinity"), "line 2"),
    "single quotes": ("r.jsonl", values(b"'" + SECRETLY + b"'"), "line 2"),
    "deep nesting": ("r.jsonl", values(b"[" * 100_000), "line 2"),
    "a value that is null": ("r.jsonl", values(b"null"), "line 2"),
    "a missing column": ("r.jsonl", after_good(b'{"other": "' + SECRETLY + b'"}'), "line 2"),
    "no column at all": ("r.jsonl", after_good(b"{}"), "line 2"),
    "a value too few": ("r.csv", lambda columns: b"id," + table(columns, 1) + b"spam\n", "line 2"),
    "a value too many": ("r.csv", record(b"spam," + SECRETLY), "line 3"),
    "a quote left open": ("r.csv", record(b'"' + SECRETLY), "line 3"),
    "text after a quote": ("r.csv", record(b'"a" ' + SECRETLY), "line 3"),
    "a quote left open in the header": ("r.csv", lambda columns: b'"' + table(columns), "header"),
    "a column twice": ("r.csv", lambda columns: f"{columns[0]},".encode() + table(columns), "more than once"),
    "a column without a name": ("r.csv", lambda columns: b" ," + table(columns), "has no name"),
    "another column": ("r.csv", lambda _: b"other\nspam\n", "Existing columns: other"),
    "another delimiter": (
        "r.csv",
        lambda columns: ";".join([*columns, "id"]).encode() + b"\na;b;c\n",
        "Existing columns",
    ),
    "carriage returns alone": (
        "r.csv",
        lambda columns: table([*columns, "id"]).replace(b"\n", b"\r"),
        "r.csv",
    ),
    "a file without a header": ("r.csv", lambda _: b"\n\n", "header"),
    "an empty file": ("r.tsv", lambda _: b"", "empty"),
    "commas in a TSV": ("r.tsv", lambda columns: table([*columns, "id"]), "Existing columns"),
    "gzip that is cut off": ("r.jsonl.gz", cut(zipped(many)), "gzip"),
    "gzip with a wrong byte": ("r.jsonl.gz", damaged(zipped(many)), "r.jsonl.gz"),
    "gzip that is none": ("r.csv.gz", table, "gzip"),
    "gzip without its name": ("r.jsonl", zipped(lines), "r.jsonl"),
    "gzip around a bad line": ("r.jsonl.gz", zipped(after_good(b"42")), "line 2"),
    "Parquet that is cut off": ("r.parquet", cut(parquet), "Parquet"),
    "Parquet without an end": ("r.parquet", lambda columns: parquet(columns)[:-4], "Parquet"),
    "Parquet that is text": ("r.parquet", lines, "Parquet"),
    "Parquet that is empty": ("r.parquet", lambda _: b"", "Parquet"),
    "Parquet that is zeros": ("r.parquet", lambda _: b"PAR1" + bytes(500) + b"PAR1", "Parquet"),
    "Parquet with a name that is not UTF-8": (
        "r.parquet",
        lambda columns: parquet([*columns, "zebra"]).replace(b"zebra", b"z\xf0bra"),
        "not valid UTF-8",
    ),
    "Parquet in gzip": ("r.parquet.gz", zipped(parquet), "gzip"),
    "Parquet of another column": ("r.parquet", lambda _: parquet(["other"]), "Existing columns: other"),
    "Parquet with NaN": ("r.parquet", lambda columns: parquet(columns, [1.5, float("nan")]), "row 1"),
    "Parquet with a null": ("r.parquet", lambda columns: parquet(columns, [SECRET, None]), "row 1"),
    "Parquet with bytes": ("r.parquet", lambda columns: parquet(columns, [SECRETLY]), "binary"),
    "Parquet with durations": ("r.parquet", lambda columns: parquet(columns, [timedelta(1)]), "duration"),
    "Parquet with a map": (
        "r.parquet",
        lambda columns: parquet(columns, [[(SECRET, 1)]], pa.map_(pa.string(), pa.int64())),
        "map",
    ),
    "Parquet with far years": ("r.parquet", lambda columns: parquet(columns, [2**60], MICRO), "years"),
    "Parquet with nanoseconds": ("r.parquet", lambda columns: parquet(columns, [1], NANO), "row group 0"),
    "an unknown format": ("r.xlsx", lines, "r.xlsx"),
    "no format": ("rows", lines, "rows"),
}
"""What is wrong: the file's name, its content, and what the message has to have beside that name."""

EMPTY: dict[str, tuple[str, Build]] = {
    "no lines": ("r.jsonl", lambda _: b""),
    "blank lines": ("r.jsonl", lambda _: b"\n \r\n\n"),
    "a byte order mark alone": ("r.jsonl", lambda _: b"\xef\xbb\xbf"),
    "a header alone": ("r.csv", lambda columns: table(columns, 0)),
    "gzip of nothing": ("r.jsonl.gz", zipped(lambda _: b"")),
    "Parquet without rows": ("r.parquet", lambda columns: parquet(columns, [], pa.string())),
}
"""Files without rows: enough for operators that work row by row, and too few to learn from."""


@dataclass(frozen=True, slots=True)
class FileCase:
    """A file and an operator that reads it.

    :param what: what is wrong with it
    :param case: the case
    """

    what: str
    case: Case


def file_cases() -> list[FileCase]:
    """Each file, read by each operator."""
    return [
        FileCase(what, _case(operator, name, build, place))
        for what, (name, build, place) in BROKEN.items()
        for operator in READERS
    ]


def empty_cases() -> list[FileCase]:
    """Each file without rows, read by each operator that needs some."""
    return [
        FileCase(what, _case(operator, name, build, "no rows"))
        for what, (name, build) in EMPTY.items()
        for operator, (_, columns) in READERS.items()
        if len(columns) > 1
    ]


def _case(operator: str, name: str, build: Build, place: str) -> Case:
    argument, columns = READERS[operator]
    return Case(operator, {argument: f"{{here}}/{name}"}, (place,), {name: build(columns)})
