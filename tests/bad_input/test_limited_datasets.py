"""Operators that make a dataset of rows send a sample, refuse an input that is too large, and can only count it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.test_inputs import OPERATORS, run, sent
from tests.bad_input.world import VALID_ARGUMENTS, operator_classes
from tests.support.databases import failing_query
from tests.support.tasks import log_lines

DATASETS = ("upload", "train", "Emissary upload")
"""Those of `OPERATORS` that make one."""
ROWS = [{"input": text, "output": "x"} for text in ("a", "bb", "ccc")]
BAD = {"input": " ", "output": "x"}
each_operator = pytest.mark.parametrize("operator", DATASETS)


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(params=["list", "file"])
def given(world, request):
    """Returns a function that makes an input of rows."""

    def of(rows):
        return rows if request.param == "list" else str(world.put("r.jsonl", lines(rows)))

    return of


@each_operator
def test_only_a_sample_is_sent_and_what_follows_it_does_not_matter(world, given, operator):
    value = given([*ROWS[:2], BAD, {"other": 1}])
    with pytest.raises(InvalidArgumentError, match="row 2"):
        run(world, operator, value)
    with pytest.raises(InvalidArgumentError, match="row 2"):
        run(world, operator, value, limit_rows=3)
    assert not world.work
    run(world, operator, value, limit_rows="2")
    assert sent(world) == ["a", "bb"]


@each_operator
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_rows": 2}, "max_rows allows 2 rows, and the input has 3 .*Nothing was sent"),
        (
            {"max_input_chars": "8"},
            "max_input_chars allows 8 characters, and the questions and answers have 9",
        ),
    ],
)
def test_an_input_that_is_too_large_is_refused(world, given, operator, limits, message):
    for more in ({}, {"dry_run": True}):
        with pytest.raises(InvalidArgumentError, match=message):
            run(world, operator, given(ROWS), **limits, **more)
    assert not world.work
    run(world, operator, given(ROWS), **limits, limit_rows=2)
    assert sent(world) == ["a", "bb"]


@each_operator
def test_a_dry_run_counts_and_sends_nothing(world, given, operator):
    world.note_files()
    value = given([*ROWS, BAD])
    keep = {"on_bad_row": "error", "max_failed_rows": 1, "state_path": "{here}/state", "dry_run": "True"}
    with log_lines() as logged:
        result = run(world, operator, value, **keep)
    assert result.pop("bytes") > 60
    assert result == {
        "dry_run": True,
        "rows": 4,
        "characters": 9,
        "failures": {"no_prompt": 1},
        "input": value if isinstance(value, str) else "a list of 4 rows",
    }
    assert any("Dry run: read" in line and "3 rows, 9 characters" in line for line in logged)
    assert world.request_counts == {}
    assert not (world.folder / "state").exists()
    with pytest.raises(InvalidArgumentError, match="row 3"):
        run(world, operator, value, dry_run=True)


@each_operator
def test_a_query_is_read_no_further_than_the_sample(world, monkeypatch, tmp_path_factory, operator):
    given = failing_query(tmp_path_factory.mktemp("database"), monkeypatch, "input", "output")
    with pytest.raises(InvalidArgumentError, match="integer overflow"):
        run(world, operator, None, **given)
    run(world, operator, None, **given, limit_rows=2)
    assert sent(world) == ["a", "a"]


def test_a_dry_run_finds_a_file_that_the_platform_does_not_take(world):
    rows = [{"input": "x" * 1000, "output": "y"}] * 5000
    with pytest.raises(InvalidArgumentError, match="too large"):
        run(world, "Emissary upload", rows, dry_run=True)
    assert not world.work


@pytest.mark.parametrize(
    "limits", [{"limit_rows": 1}, {"max_rows": 1}, {"max_input_chars": 1}, {"dry_run": True}]
)
def test_a_dataset_that_is_there_has_no_limits(world, limits):
    arguments = {"input": None, "dataset_id": "d"}
    with pytest.raises(InvalidArgumentError, match="need input"):
        world.run("TrainOperator", arguments | limits)
    assert not world.work


@each_operator
def test_a_larger_sample_is_another_dataset(world, operator):
    for limit in (1, 1, 2):
        run(world, operator, ROWS, limit_rows=limit, state_path="{here}/state")
    assert sent(world) == ["a", "a", "bb"]


@each_operator
def test_the_limits_are_templates(operator):
    name = OPERATORS[operator][0]
    fields = operator_classes()[name](task_id="t", **VALID_ARGUMENTS[name]).template_fields
    assert {"limit_rows", "max_rows", "max_input_chars", "count_only"} <= set(fields)
