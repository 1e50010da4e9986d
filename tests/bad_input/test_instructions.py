"""Datasets in Alpaca's format have the question as 'instruction', beside an 'input' that may be empty: both are meant."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.test_inputs import run, sent

ROWS = [
    {"instruction": "Translate.", "input": "a", "output": "x"},
    {"instruction": "Sum up.", "input": "b", "output": "y"},
]
each_operator = pytest.mark.parametrize("operator", ["upload", "train", "evaluate", "Emissary upload"])


@pytest.fixture(params=["list", "file"])
def given(world, request):
    """Returns a function that makes an input of rows."""

    def of(rows):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return rows if request.param == "list" else str(world.put("r.jsonl", content))

    return of


@each_operator
def test_an_instruction_beside_the_input_is_not_left_out(world, given, operator):
    with pytest.raises(InvalidArgumentError, match=r"'instruction' beside the 'input'.*\{instruction\}"):
        run(world, operator, given(ROWS), prompt="input")
    assert sent(world) == []


@each_operator
def test_it_is_sent_or_left_out_as_the_prompt_says(world, given, operator):
    run(world, operator, given(ROWS), prompt="{instruction}\n\n{input}")
    assert sent(world) == ["Sum up.\n\nb", "Translate.\n\na"]


@each_operator
@pytest.mark.parametrize(
    "more", [{}, {"instruction": None}, {"instruction": " "}], ids=["none", "null", "blank"]
)
def test_rows_without_one_are_sent(world, given, operator, more):
    run(world, operator, given([{**more, "input": "a", "output": "x"}]), prompt="input")
    assert sent(world) == ["a"]


@each_operator
def test_a_prompt_in_braces_leaves_it_out(world, given, operator):
    run(world, operator, given(ROWS), prompt="{input}")
    assert sent(world) == ["a", "b"]
