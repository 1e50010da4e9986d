"""Input as people have it: what each operator sends of it, from lists, local files and an object store."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sqlite3
from collections import namedtuple
from contextlib import closing
from dataclasses import make_dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.storage.locate import locate
from tests.bad_input.files import READERS, parquet, table
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.tasks import log_lines

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CLASSES = ("a", "b", "spam", "x", "aa")
"""The classes of rows in all tests that use these operators."""
OPERATORS = {
    "batch": ("BatchInferenceOperator", {}),
    "deferred": ("BatchInferenceOperator", {"deferrable": True}),
    "completions": ("BatchInferenceOperator", {"endpoint": "completions"}),
    "chat": ("BatchInferenceOperator", {"endpoint": "chat"}),
    "embedding": ("EmbeddingOperator", {}),
    "classify": ("ClassifyOperator", {}),
    "rag": ("MemoryRagQueryOperator", {}),
    "upload": ("UploadDatasetOperator", {}),
    "train": ("TrainOperator", {"deferrable": True}),
    "evaluate": ("EvaluateOperator", {"endpoint": "completions"}),
    "evaluate classifier": ("EvaluateClassifierOperator", {}),
    "train a classifier": (
        "ClassifierTrainOperator",
        {"answer": "label", "classes": dict.fromkeys(CLASSES, "a class"), "deferrable": True},
    ),
    "Emissary batch": ("EmissaryBatchInferenceOperator", {}),
    "Emissary chat": ("EmissaryBatchInferenceOperator", {"endpoint": "chat"}),
    "Emissary classification": ("EmissaryBatchInferenceOperator", {"endpoint": "classification"}),
    "Emissary embeddings": ("EmissaryBatchInferenceOperator", {"endpoint": "embeddings", "target": "prompt"}),
    "Emissary upload": ("EmissaryUploadDatasetOperator", {"deferrable": True}),
}
"""All that read rows, each with all endpoints that make a request of a row in their own way."""


def sent(world) -> list[str]:
    """Return all texts that the platforms were sent, sorted: direct requests arrive in any order."""
    bodies = [body for platform in (world.platform, world.emissary) for _, body in platform.bodies]
    return sorted(text for body in bodies for text in texts_of(body))


def texts_of(body) -> list[str]:
    """Return the texts of rows in the body of a request."""
    if "messages" in body:
        return [body["messages"][-1]["content"]]
    if "prompt" in body:
        return [body["prompt"]] if isinstance(body["prompt"], str) else list(body["prompt"])
    if "input" in body:
        return [body["input"]]
    if "files" in body:
        files = body["files"].values()
        return [json.loads(line)["prompt"] for content in files for line in content.splitlines()]
    if "examples" in body:
        return [text for texts in body["examples"].values() for text in texts]
    return [row["input"] for name in ("data", "eval_data") for row in body.get(name) or []]


def row(columns, text, **more):
    return {columns[0]: text, **dict.fromkeys(columns[1:], "x"), **more}


def lines(columns, *texts):
    return "".join(json.dumps(row(columns, text)) + "\n" for text in texts).encode()


def array(columns, *texts):
    return json.dumps([row(columns, text) for text in texts], indent=2).encode()


def records(columns):
    """Rows as database clients give them."""
    names = ", ".join(f"? AS {column}" for column in columns)
    with closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = sqlite3.Row
        return database.execute(f"SELECT {names}", ("a", *["x"] * (len(columns) - 1))).fetchall()


def described(columns):
    values = ["a", *["x"] * (len(columns) - 1)]
    return [[[column, "TEXT", None, None, None, None, None] for column in columns], [values]]


LISTS = {
    "named tuples": lambda c: [namedtuple("Row", c)("a", *"x" * (len(c) - 1))],  # noqa: PYI024
    "dataclasses": lambda c: [make_dataclass("Row", c)("a", *"x" * (len(c) - 1))],
    "rows of sqlite3": records,
    "a description and its rows": described,
    "pages": lambda c: [[row(c, "a")], [], [row(c, "b"), row(c, "c")]],
    "pages of frames": lambda c: [pd.DataFrame([row(c, "a")]), pd.DataFrame([row(c, "b")])],
    "a frame of pandas": lambda c: pd.DataFrame([row(c, "a", n=1.5), row(c, "b", n=None)]),
    "a frame of polars": lambda c: pl.DataFrame([row(c, "a"), row(c, "b")]),
    "a table of Arrow": lambda c: pa.table({name: ["a", "b"] for name in c}),
}
EXPECTED = {"pages": "abc"} | dict.fromkeys(
    (name for name in LISTS if "frame" in name or "Arrow" in name), "ab"
)
FILES = {
    "two files": {"1.jsonl": lambda c: lines(c, "a"), "2.csv": lambda c: table(c, 1).replace(b"spam", b"b")},
    "an array": {"r.json": lambda c: array(c, "a", "b")},
    "objects that span lines": {
        "1.json": lambda c: json.dumps(row(c, "a"), indent=2).encode(),
        "2.json": lambda c: json.dumps(row(c, "b"), indent="\t").encode() + b"\n",
    },
    "objects that span lines in one file": {
        "r.json": lambda c: b"".join(json.dumps(row(c, text), indent=2).encode() + b"\r\n" for text in "ab")
    },
    "bzip2": {"r.jsonl.bz2": lambda c: bz2.compress(lines(c, "a")) + bz2.compress(lines(c, "b"))},
    "xz": {"r.jsonl.xz": lambda c: lzma.compress(lines(c, "a", "b"))},
    "zstd": {"r.jsonl.zst": lambda c: zstandard.compress(lines(c, "a")) + zstandard.compress(lines(c, "b"))},
    "gzip by content": {"r.json": lambda c: gzip.compress(lines(c, "a", "b"))},
    "UTF-16": {"r.csv": lambda c: (",".join(c) + "\n" + ",".join("a" * len(c)) + "\n" + ",".join("b" * len(c))).encode("utf-16")},
    "semicolons": {"r.csv": lambda c: f";{';'.join(c)};\n0;{';'.join('a' * len(c))};\n1;{';'.join('b' * len(c))};\n".encode()},
    "no suffix": {"part-00000": lambda c: lines(c, "a", "b")},
    "a marker beside": {"r.jsonl": lambda c: lines(c, "a", "b"), "_SUCCESS": lambda _: b""},
    "hidden files": {
        "r.jsonl": lambda c: lines(c, "a", "b"),
        "_temporary/0/r.jsonl": lambda c: lines(c, "wrong"),
        ".ipynb_checkpoints/r.jsonl": lambda c: lines(c, "wrong"),
        "_delta_log/0.json": lambda _: b"{}",
        ".r.jsonl.crc": lambda _: b"\0",
    },
    "a map and bytes in Parquet": {"r.parquet": lambda c: parquet(c, [b"a", b"b"], pa.binary())},
}  # fmt: skip


def run(world, operator, value, **arguments):
    name, options = OPERATORS[operator]
    return world.run(name, {READERS[name][0]: value, **options, **arguments})


def columns_of(operator):
    name, options = OPERATORS[operator]
    columns = READERS[name][1]
    return [*columns[:-1], options["answer"]] if "answer" in options else columns


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_list_of_any_form_is_sent_row_by_row(world, operator, form):
    run(world, operator, LISTS[form](columns_of(operator)))
    assert sent(world) == list(EXPECTED.get(form, "a"))


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(
    ("operator", "place"),
    [(operator, ["local", "list", "store"][number % 3]) for number, operator in enumerate(OPERATORS)]
    + [("batch", "list"), ("batch", "store"), ("upload", "store"), ("upload", "list")],
)
def test_files_of_any_form_are_sent_row_by_row(world, object_store, operator, place, form):  # noqa: F811, ARG001
    base = "memory://bucket/in" if place == "store" else str(Path(world.folder) / "in")
    for name, build in FILES[form].items():
        store, path = locate(f"{base}/{name}")
        store.write(path, build(columns_of(operator)), durable=False)
    value = f"{base}/**/*" if place == "store" and form == "hidden files" else f"{base}/*"
    if place == "list":
        value = [f"{base}/{name}" for name in FILES[form]]
    run(world, operator, value)
    assert sent(world) == ["a", "b"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_keys_without_a_bucket_are_refused_with_the_remedy(world, operator):
    for value in (["a/day1.jsonl", "a/day2.jsonl"], ["s3://bucket/a.jsonl", "a text"]):
        with pytest.raises(InvalidArgumentError, match=r"add the scheme and the bucket|Pass only files"):
            run(world, operator, value)
    assert sent(world) == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_partition_column_and_a_field_are_columns(world, operator):
    columns = columns_of(operator)
    record = json.dumps(row(columns, "unused", user={"name": "Ada"}))
    world.put("in/dt=2026-01-01/r.jsonl", record.encode())
    run(world, operator, "{here}/in/*/*.jsonl", prompt="{dt} {user.name}")
    assert sent(world) == ["2026-01-01 Ada"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_braces_are_columns_or_refused(world, operator):
    rows = [row(columns_of(operator), "unused", **{"Price (USD)": "7", "score": 1})]
    for brace in ("price (usd)", "score:.2f", " score ", "score!r", "score[0]"):
        with pytest.raises(InvalidArgumentError, match="Did you mean"):
            run(world, operator, rows, prompt=f"{{score}} {{{brace}}}")
    assert sent(world) == []
    run(world, operator, rows, prompt='{Price (USD)} \\{score:.2f\\} {"a": 1}')
    assert sent(world) == ['7 {score:.2f} {"a": 1}']


@pytest.mark.parametrize("operator", ["batch", "upload"])
@pytest.mark.parametrize("null", ["\\N", "NULL"])
def test_a_null_of_a_database_is_missing_and_not_a_word(world, operator, null):
    columns = columns_of(operator)
    world.put("r.csv", f"{','.join(columns)}\n{','.join([null] * len(columns))}\n".encode())
    with pytest.raises(InvalidArgumentError, match="no value"):
        run(world, operator, "{here}/r.csv")
    run(world, operator, "{here}/r.csv", csv_options={"null_values": []})
    assert sent(world) == [null]


def make_run(world, texts=("good", "fail")):
    return world.run(
        "BatchInferenceOperator",
        {"input": list(texts), "output": "{here}/first", "endpoint": "completions", "max_failed_rows": 1},
    )


@pytest.mark.parametrize("form", ["folder", "manifest", "result", "results"])
def test_an_earlier_run_is_an_input_by_itself(world, form):
    result = make_run(world, ["one", "two"])
    world.platform.bodies.clear()
    value = {
        "folder": result["output"],
        "manifest": result["manifest"],
        "result": result,
        "results": [result],
    }[form]
    world.run(
        "BatchInferenceOperator", {"input": value, "prompt": "Again {output}", "endpoint": "completions"}
    )
    assert sent(world) == ["Again one", "Again two"]


def test_a_pattern_in_an_output_folder_takes_the_parts_alone(world):
    result = make_run(world, ["one", "two"])
    world.put("first/errors-00000.jsonl", b'{"index": 7, "error": "e"}\n')
    world.platform.bodies.clear()
    world.run(
        "BatchInferenceOperator",
        {"input": f"{result['output']}/*", "prompt": "{output}", "endpoint": "completions"},
    )
    assert sent(world) == ["one", "two"]


def test_what_was_sniffed_and_skipped_is_one_log_line(world):
    world.put("in/dt=1/r.csv", b"prompt;id\na;1\n")
    world.put("in/dt=1/.r.csv.crc", b"")
    with log_lines() as logged:
        world.run("BatchInferenceOperator", {"input": "{here}/in/**/*", "endpoint": "completions"})
    (line,) = (line for line in logged if line.startswith("Validated"))
    for text in (
        "1 row, ",
        "1 character ",
        "delimiter semicolon",
        "partition columns dt",
        "skipped as hidden",
    ):
        assert text in line
