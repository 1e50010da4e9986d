"""A column that only some files have: rows of the others are bad rows, in each format."""

from __future__ import annotations

import pyarrow as pa
import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.files import parquet
from tests.bad_input.test_inputs import OPERATORS, columns_of, lines, run, sent
from tests.support.tasks import log_lines

FORMATS = {
    "csv": lambda columns: (",".join(columns) + "\n" + ",".join("a" * len(columns)) + "\n").encode(),
    "parquet": lambda columns: parquet(columns, ["a"], pa.string()),
    "jsonl": lambda columns: lines(columns, "a"),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_of_files_without_the_prompt_are_bad_rows(world, operator, suffix):
    columns = columns_of(operator)
    world.put(f"in/1.{suffix}", FORMATS[suffix](["other", *columns[1:]]))
    world.put(f"in/2.{suffix}", FORMATS[suffix](columns))
    with pytest.raises(InvalidArgumentError, match="column"):
        run(world, operator, f"{{here}}/in/*.{suffix}", prompt=f"{{{columns[0]}}}")
    run(
        world,
        operator,
        f"{{here}}/in/*.{suffix}",
        prompt=f"{{{columns[0]}}}",
        on_bad_row="error",
        max_failed_rows=1,
    )
    assert sent(world) == ["a"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_empty_csv_file_beside_others_has_no_rows(world, operator):
    columns = columns_of(operator)
    world.put("in/1.csv")
    world.put("in/2.csv", FORMATS["csv"](columns))
    with log_lines() as logged:
        run(world, operator, "{here}/in/*.csv", prompt=f"{{{columns[0]}}}")
    assert sent(world) == ["a"]
    assert any("skipped as empty (1.csv)" in text for text in logged)
    with pytest.raises(InvalidArgumentError, match="is empty"):
        run(world, operator, "{here}/in/1.csv", **({"output": "{here}/other"} if operator == "batch" else {}))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("operator", ["completions", "upload"])
def test_a_column_that_no_file_has_is_refused(world, operator, suffix):
    columns = columns_of(operator)
    for number in range(2):
        world.put(f"in/{number}.{suffix}", FORMATS[suffix](["other", *columns[1:]]))
    with pytest.raises(InvalidArgumentError, match=f"column '{columns[0]}'"):
        run(
            world,
            operator,
            f"{{here}}/in/*.{suffix}",
            prompt=f"{{{columns[0]}}}",
            on_bad_row="error",
            max_failed_rows=9,
        )
    assert sent(world) == []
