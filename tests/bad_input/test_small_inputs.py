"""Small inputs of many kinds, with what is sent of each: encodings, dialects of CSV, compression, partitions, tables."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from datetime import date, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.support.results import rows_in

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

BATCH = "BatchInferenceOperator"
KEEP = {"on_bad_row": "error", "max_failed_rows": 1}
FAILED = None


def line(text: str) -> bytes:
    return json.dumps({"prompt": text}).encode() + b"\n"


def of_table(table: pa.Table, **options) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, **options)
    return file.getvalue()


def csv(**options) -> dict[str, object]:
    return {"csv_options": options}


SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
TWO = pa.table({"prompt": ["a"], "d": [date(2026, 1, 2)], "t": [time(1, 2, 3)], "s": [timedelta(seconds=90)]})
DECIMALS = pa.table(
    {"p": [Decimal("1.10")], "q": pa.array([Decimal("12345678901234567890.12")], pa.decimal256(50, 2))}
)
FILES = {
    "Windows-1252": ("r.csv", "prompt,id\ncafé €,1\n".encode("cp1252"), csv(encoding="cp1252"), ["café €"]),
    "Shift JIS": ("r.csv", "prompt\n日本\n".encode("shift_jis"), csv(encoding="shift_jis"), ["日本"]),
    "UTF-16 without a mark": ("r.csv", "prompt,id\nč,1\n".encode("utf-16-le"), csv(encoding="utf-16-le"), ["č"]),
    "UTF-16 with a mark, as the user says": ("r.csv", "prompt\nč\n".encode("utf-16"), csv(encoding="utf-16"), ["č"]),
    "UTF-32": ("r.jsonl", '{"prompt":"č"}\n'.encode("utf-32"), {}, ["č"]),
    "lines in UTF-16": ("r.txt", "a\nb\n".encode("utf-16"), {}, ["a", "b"]),
    "lines with a mark": ("r.txt", b"\xef\xbb\xbfa\r\n\r\nb\r\n", {}, ["a", "b"]),
    "a file of Hive": ("r.csv", b"1\x01a\n2\x01b\n", csv(delimiter="\x01", header=["id", "prompt"]), ["a", "b"]),
    "a tab that is spelled": ("r.csv", b"id\tprompt\n1\ta\n", csv(delimiter="\\t"), ["a"]),
    "blanks as delimiters": ("r.csv", b"id prompt\n1 a\n", csv(delimiter=" "), ["a"]),
    "single quotes": ("r.csv", b"id,prompt\n1,'a, b'\n", csv(quote="'"), ["a, b"]),
    "quotation marks that are text": ("r.tsv", b'id\tprompt\n1\t"a\n2\tb"\n', csv(quote=None), ['"a', 'b"']),
    "a quotation mark within a value": ("r.csv", b'id,prompt\n1,5" disk\n', {}, ['5" disk']),
    "decimal commas": ("r.csv", b"id;prompt\n1;3,14\n2;2,71\n", {}, ["3,14", "2,71"]),
    "words for missing numbers": ("r.csv", b"prompt,id\nNA,1\nNaN,2\nnull,3\n", {}, ["NA", "NaN", "null"]),
    "NUL in a value": ("r.csv", b"prompt,id\na\0b,1\n", {}, ["a\0b"]),
    "a line break in the header": ("r.csv", b'"the\nprompt",id\na,1\n', {"prompt": "the\nprompt"}, ["a"]),
    "names that differ in case": ("r.csv", b"id,prompt,ID\n1,a,2\n", {"prompt": "{prompt} {ID}"}, ["a 2"]),
    "fewer names than values": ("r.csv", b"1,a,z\n", csv(header=["id", "prompt"]), ["a"]),
    "more names than values": ("r.csv", b"1,a\n", csv(header=["id", "prompt", "x"]), ["a"]),
    "a result of psql": ("r.csv", b"prompt,id\na,1\nb,2\n(2 rows)\n", {"prompt": "{prompt}"}, ["a", "b"]),
    "a result of sqlcmd": ("r.csv", b"id,prompt\r\n--,------\r\n1,a\r\n\r\n(1 rows affected)\r\n", {}, ["a"]),
    "a result in tabs": ("r.tsv", b"id\tprompt\n-\t------\n1\ta\n", {}, ["a"]),
    "a table of Markdown": ("r.csv", b"|id|prompt|\n|:--|:-:|\n|1|a|\n", {}, ["a"]),
    "an underlined header, as the user says": ("r.csv", b"id,prompt\n--,--\n1,a\n", csv(header=["id", "prompt"]), ["a"]),
    "dashes that are values": ("r.csv", b"id,prompt\n1,a\n--,--\n", {}, ["a", "--"]),
    "dashes without a header": ("r.csv", b"--,--\n--,--\n", csv(header=["id", "prompt"]), ["--", "--"]),
    "one column of dashes": ("r.csv", b"prompt\n----\n(1 row)\n", {}, ["----", "(1 row)"]),
    "a number of rows that is a value": ("r.csv", b"prompt,id\n(2 rows),1\n", {}, ["(2 rows)"]),
    "an object that is a file": ("r.json", b'{"prompt":"a"}', {}, ["a"]),
    "texts in an array": ("r.json", b'["a","b"]', {}, ["a", "b"]),
    "digits of numbers": ("r.jsonl", b'{"prompt":123456789012345678901234567890}\n', {}, ["123456789012345678901234567890"]),
    "a number beyond all floats": ("r.jsonl", b'{"prompt":1}\n{"prompt":1e400}\n', KEEP, ["1", FAILED]),
    "fields of fields": ("r.jsonl", b'{"u":{"n":{"x":"a"}}}\n', {"prompt": "{u.n.x}!"}, ["a!"]),
    "half a pair of surrogates": ("r.jsonl", line("a") + b'{"prompt":"\\udc00"}\n', KEEP, ["a", FAILED]),
    "half a pair beside the prompt": ("r.jsonl", b'{"prompt":"a","id":"\\udc00"}\n', {}, ["a"]),
    "frames of Zstandard to skip": (
        "r.jsonl.zst",
        zstandard.compress(line("a")) + SKIPPABLE_FRAME + zstandard.compress(line("b")),
        {},
        ["a", "b"],
    ),
    "bzip2 without its suffix": ("r.jsonl", bz2.compress(line("a")), {}, ["a"]),
    "the old format of xz": ("r.jsonl.xz", lzma.compress(line("a"), format=lzma.FORMAT_ALONE), {}, ["a"]),
    "zeros after gzip": ("r.jsonl.gz", gzip.compress(line("a")) + bytes(512), {}, ["a"]),
    "dates and times": ("r.parquet", of_table(TWO), {"prompt": "{d} {t} {s}"}, ["2026-01-02 01:02:03 PT1M30S"]),
    "decimals": ("r.parquet", of_table(DECIMALS), {"prompt": "{p} {q}"}, ["1.10 12345678901234567890.12"]),
    "old timestamps": (
        "r.parquet",
        of_table(pa.table({"prompt": pa.array([0], pa.timestamp("ns"))}), use_deprecated_int96_timestamps=True),
        {},
        ["1970-01-01T00:00:00"],
    ),
    "the largest number": ("r.parquet", of_table(pa.table({"prompt": pa.array([2**64 - 1], pa.uint64())})), {}, [str(2**64 - 1)]),
    "structs in lists": ("r.parquet", of_table(pa.table({"prompt": [[{"a": date(2026, 1, 1)}]]})), {}, ['[{"a":"2026-01-01"}]']),
    "Brotli": ("r.parquet", of_table(pa.table({"prompt": ["a"]}), compression="brotli"), {}, ["a"]),
}  # fmt: skip
"""Name, content, arguments, and what is sent; ``FAILED`` for a row that is not."""


def prompts(world, value, **arguments) -> list[object]:
    world.run(BATCH, {"endpoint": "completions", "input": value, **arguments})
    return [row["output"] for row in rows_in(world.folder / "out")]


@pytest.mark.parametrize("kind", FILES)
def test_a_small_file_is_sent_as_it_reads(world, kind):
    name, content, arguments, expected = FILES[kind]
    world.put(name, content)
    assert prompts(world, f"{{here}}/{name}", **arguments) == expected


PARTITIONS = {
    "escapes": ("city=S%C3%A3o%20Paulo", "São Paulo"),
    "an escaped slash": ("city=a%2Fb", "a/b"),
    "a plus": ("city=a+b", "a+b"),
    "a percent sign": ("city=100%", "100%"),
    "no escape": ("city=x%zz", "x%zz"),
    "bytes that are not UTF-8": ("city=%ffx", "%ffx"),
}


@pytest.mark.parametrize("kind", PARTITIONS)
def test_the_value_of_a_partition_is_sent_as_it_was_before_it_was_escaped(world, kind):
    folder, expected = PARTITIONS[kind]
    world.put(f"in/{folder}/r.jsonl", line("unused"))
    assert prompts(world, "{here}/in/*/*.jsonl", prompt="{city}!") == [f"{expected}!"]


def test_a_column_of_a_file_counts_instead_of_a_partition(world):
    world.put("in/prompt=p/r.jsonl", line("a"))
    assert prompts(world, "{here}/in/*/*.jsonl") == ["a"]


PATTERNS = {
    "a name that is a pattern": ("a[1].jsonl", ["[1]"]),
    "one of several characters": ("a[12].jsonl", ["1", "2"]),
    "none of several characters": ("a[!1].jsonl", ["2", "3"]),
    "an escaped bracket": ("a[[]1].jsonl", ["[1]"]),
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_brackets_in_patterns_and_names(world, kind):
    pattern, expected = PATTERNS[kind]
    for text in ("1", "2", "3", "[1]"):
        world.put(f"in/a{text}.jsonl", line(text))
    assert prompts(world, f"{{here}}/in/{pattern}") == expected


MOMENTS = pd.DataFrame({"prompt": [pd.Timestamp("2026-01-02"), pd.NaT]})
TABLES = {
    "NaT": (MOMENTS, ["2026-01-02T00:00:00", FAILED]),
    "numbers that may be missing": (pd.DataFrame({"prompt": pd.array([1, None], dtype="Int64")}), ["1", FAILED]),
    "categories": (pd.DataFrame({"prompt": pd.Categorical(["a", None])}), ["a", FAILED]),
    "a Series": (pd.Series(["a", None]), ["a", FAILED]),
    "an enumeration of polars": (pl.DataFrame({"prompt": pl.Series(["a"], dtype=pl.Enum(["a"]))}), ["a"]),
    "a dictionary of Arrow": (pa.table({"prompt": pa.array(["a", None]).dictionary_encode()}), ["a", FAILED]),
    "a column of Arrow": (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
    "16-bit floats": (pa.table({"prompt": pa.array([np.float16(0.1)], pa.float16())}), ["0.1"]),
    "no rows": (pd.DataFrame({"prompt": []}), []),
    "no columns": (pd.DataFrame(), []),
    "a tuple": (("a", "b"), ["a", "b"]),
    "half a pair of surrogates": (["a", "\ud800"], ["a", FAILED]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_small_table_is_sent_as_it_reads(world, kind):
    table, expected = TABLES[kind]
    assert prompts(world, table, **KEEP) == expected


@pytest.mark.parametrize(
    "value", [["a", None], ["a", float("nan")], pd.Series(["a", None]), [{"prompt": "a"}, None]]
)
def test_a_row_that_is_missing_has_no_prompt(world, value):
    with pytest.raises(InvalidArgumentError, match=r"row 1 .* has no value in the column 'prompt'"):
        prompts(world, value)
    assert prompts(world, value, **KEEP) == ["a", FAILED]
    assert [row["error_reason"] for row in rows_in(world.folder / "out", "errors-*.jsonl")] == ["no_prompt"]


def test_an_open_quotation_mark_is_refused_with_the_option(world):
    world.put("r.tsv", b'id\tprompt\n1\t"a\n2\tb\n')
    with pytest.raises(InvalidArgumentError, match=r"line 2: a quotation mark is opened.*\{'quote': None\}"):
        prompts(world, "{here}/r.tsv")


@pytest.mark.parametrize("content", [line("a"), b'\xef\xbb\xbf[{"prompt": "a"}]\n'])
def test_rows_of_json_in_a_csv_file_are_named_and_not_repeated(world, content):
    world.put("r.csv", content)
    with pytest.raises(
        InvalidArgumentError, match=r"r\.csv begins with a row of JSON.*input_format='jsonl'"
    ) as caught:
        prompts(world, "{here}/r.csv")
    assert "prompt" not in str(caught.value)
    assert prompts(world, "{here}/r.csv", input_format="jsonl") == ["a"]
