"""One log line says what was read, with rows, characters and what was sniffed."""

from __future__ import annotations

import json

import pytest

from tests.bad_input.test_inputs import OPERATORS, columns_of, run
from tests.support.tasks import log_lines


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_read_is_said(world, operator):
    columns = columns_of(operator)
    world.put("r.csv", f"{';'.join(columns)};x\n{';'.join(['aa'] * len(columns))};y\n".encode())
    with log_lines() as logged:
        run(world, operator, "{here}/r.csv")
    (line,) = (text for text in logged if "delimiter semicolon" in text)
    assert "r.csv" in line
    assert "1 row" in line
    assert " characters" in line


def test_examples_in_a_mapping_are_counted(world):
    with log_lines() as logged:
        world.run("ClassifierTrainOperator", {"examples": {"spam": ["buy", "now"], "ham": ["hello"]}})
    assert any("3 texts, 11 characters" in text for text in logged)


@pytest.mark.parametrize("pages", [["a"], ["a", "b"]])
def test_delimiter_and_quote_can_be_said(world, pages):
    content = "prompt~id\n" + "".join(f"'{text}~1'~2\n" for text in pages)
    world.put("r.csv", content.encode())
    options = {"delimiter": "~", "quote": "'"}
    world.run(
        "BatchInferenceOperator", {"input": "{here}/r.csv", "csv_options": options, "endpoint": "completions"}
    )
    parts = (world.folder / "out").glob("part-*.jsonl")
    rows = [json.loads(text) for part in parts for text in part.read_text().splitlines()]
    assert [row["output"] for row in rows] == [f"{text}~1" for text in pages]


def test_a_delimiter_that_only_rows_end_with_is_sniffed(world):
    world.put("r.csv", b"id;prompt\n1;a, b;\n2;c, d;\n")
    with log_lines() as logged:
        world.run("BatchInferenceOperator", {"input": "{here}/r.csv", "endpoint": "completions"})
    assert any("delimiter semicolon" in text for text in logged)


def test_the_default_partition_of_hive_is_a_missing_value(world):
    world.put("in/dt=__HIVE_DEFAULT_PARTITION__/r.jsonl", b'{"prompt": "a"}\n')
    world.put("in/dt=2026-01-01/r.jsonl", b'{"prompt": "b"}\n')
    arguments = {"input": "{here}/in/*/*", "endpoint": "completions", "passthrough": ["dt"]}
    world.run("BatchInferenceOperator", arguments)
    part = (world.folder / "out" / "part-00000.jsonl").read_text().splitlines()
    assert sorted((json.loads(text)["output"], json.loads(text)["dt"]) for text in part) == [
        ("a", None),
        ("b", "2026-01-01"),
    ]
