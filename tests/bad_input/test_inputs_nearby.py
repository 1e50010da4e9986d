"""Inputs that nearly look like something else: names of files, hidden folders, parts beside errors, values of other types."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import part_groups
from tests.support.results import rows_in
from tests.support.tasks import log_lines

BATCH = "BatchInferenceOperator"


class Color(str, Enum):  # noqa: UP042 - unlike StrEnum it has a str() of its own
    RED = "red"


def prompts(world, **arguments) -> list[str]:
    """Return what is sent, in the order of the input."""
    world.run(BATCH, {"endpoint": "completions", **arguments})
    return [row["output"] for row in rows_in(world.folder / "out")]


def line(text: str) -> bytes:
    return json.dumps({"prompt": text}).encode() + b"\n"


VALUES = {
    "a member of an enum": ([Color.RED, {"prompt": Color.RED}], ["red", "red"]),
    "a zero of a database": ([{"prompt": Decimal("0E-8")}], ["0.00000000"]),
    "a decimal with a positive exponent": ([{"prompt": Decimal("1E+3")}], ["1000"]),
    "trailing zeros of a decimal": ([{"prompt": Decimal("3.10")}], ["3.10"]),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_sent_as_it_reads(world, name):
    rows, expected = VALUES[name]
    assert prompts(world, input=rows) == expected


def test_a_decimal_with_a_huge_exponent_keeps_it(world):
    assert prompts(world, input=[{"prompt": Decimal("1E+999999")}]) == ["1E+999999"]


def test_bytes_in_a_table_that_are_no_text_are_refused_with_their_column(world):
    with pytest.raises(InvalidArgumentError, match=r"row 1 of the list: column 'prompt' is of type bytes"):
        prompts(world, input=pa.table({"prompt": pa.array([b"a", b"\xff"])}))
    assert not world.work


@pytest.mark.parametrize("folder", ["_landing", ".data"])
def test_a_hidden_name_in_the_fixed_part_of_a_pattern_allows_none_below_it(world, folder):
    world.put(f"{folder}/r.jsonl", line("a"))
    world.put(f"{folder}/_temporary/0/r.jsonl", line("half"))
    world.put(f"{folder}/.ipynb_checkpoints/r.jsonl", line("old"))
    assert prompts(world, input=f"{{here}}/{folder}/**/*.jsonl") == ["a"]


def test_a_pattern_may_spell_a_hidden_folder_below_its_fixed_part(world):
    world.put("x/_new/r.jsonl", line("a"))
    assert prompts(world, input="{here}/*/_new/*.jsonl") == ["a"]


def earlier_run(world) -> dict[str, Any]:
    rows = [{"prompt": "a", "id": 1}, {"prompt": " ", "id": 2}]
    options = {"on_bad_row": "error", "max_failed_rows": 1, "passthrough": ["id"], "output": "{here}/earlier"}
    result: dict[str, Any] = world.run(BATCH, {"endpoint": "completions", "input": rows, **options})
    return result


def test_a_list_of_all_files_of_a_run_sends_no_row_twice(world):
    earlier_run(world)
    files = sorted((world.folder / "earlier").glob("*.jsonl"))
    assert [file.name for file in files] == ["errors-00000.jsonl", "part-00000.jsonl"]
    assert prompts(world, input=files, prompt="row {id}") == ["row 1"]


def test_the_errors_of_a_run_alone_are_an_input(world):
    earlier_run(world)
    assert prompts(world, input="{here}/earlier/errors-00000.jsonl", prompt="row {id}") == ["row 2"]


PARTS = {
    "the parts of the result": lambda result: result["parts"],
    "one part": lambda result: result["parts"][0],
    "a pattern": lambda result: f"{result['output']}/part-*.jsonl",
    "all files": lambda result: f"{result['output']}/*",
    "a list of all files": lambda result: [*result["parts"], *result["errors"], result["manifest"]],
    "a manifest and all files": lambda result: [result["manifest"], *result["errors"], *result["parts"]],
    "a group of parts": lambda result: part_groups(result)[0],
    "pages of parts": part_groups,
}


@pytest.mark.parametrize("form", PARTS)
def test_failed_rows_are_skipped_in_parts_as_in_the_folder(world, form):
    result = earlier_run(world)
    parts = PARTS[form](result)
    with log_lines() as logged:
        assert prompts(world, input=parts, prompt="row {id}") == ["row 1"]
    assert "skipped 1 failed row (" in next(text for text in logged if text.startswith("Validated"))


@pytest.mark.parametrize("form", PARTS)
def test_failed_rows_of_parts_can_be_refused(world, form):
    parts = PARTS[form](earlier_run(world))
    with pytest.raises(InvalidArgumentError, match="failed_input_rows='fail'"):
        prompts(world, input=parts, prompt="row {id}", failed_input_rows="fail")
    assert len(world.platform.bodies) == 1  # of the earlier run


def test_files_that_are_only_named_like_parts_keep_their_rows(world):
    world.put("in/manifest.json", b'{"format": "of another program"}')
    world.put("in/part-00000.jsonl", b'{"prompt": "a", "error": "e"}\n')
    assert prompts(world, input="{here}/in/part-*") == ["a"]


def test_a_list_of_output_folders_is_a_list_of_runs(world):
    earlier_run(world)
    assert prompts(world, input=["{here}/earlier"], prompt="{output}") == ["a"]


@pytest.mark.parametrize("key", ["day/part-00000", "part-m-00000", "day/rows.avro", "logs/app.log.gz"])
def test_keys_of_files_without_a_known_suffix_are_not_sent(world, key):
    with pytest.raises(InvalidArgumentError, match="add the scheme and the bucket"):
        prompts(world, input=[key, key.replace("0", "1")])
    assert not world.work


@pytest.mark.parametrize(
    "text", ["and/or", "Sports/Football", "part-time", "https://example.org/part-00000", "a.log"]
)
def test_texts_that_only_resemble_keys_are_sent(world, text):
    assert prompts(world, input=[text]) == [text]


CSV = {
    "short rows": b"id;prompt;note\n1;a\n2;b;\n",
    "separators of Unicode in a value": "id;prompt\n1;a\n2;b\x85\n".encode(),
}


@pytest.mark.parametrize("name", CSV)
def test_semicolons_are_recognized_despite(world, name):
    world.put("r.csv", CSV[name])
    assert [text.strip() for text in prompts(world, input="{here}/r.csv")] == ["a", "b"]
