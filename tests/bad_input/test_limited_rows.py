"""A sample of the first rows does not depend on what the rows after them hold."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.test_inputs import sent
from tests.support.results import rows_in

BATCH = "BatchInferenceOperator"


def of_table(values) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"prompt": values}), file)
    return file.getvalue()


GOOD = b'{"prompt": "a"}\n'
FILES = {
    "a broken line": ("r.jsonl", GOOD + b"x\n", "line 2: not valid JSON"),
    "a row without the prompt": ("r.jsonl", GOOD + b'{"other": 1}\n', "line 2"),
    "a blank prompt": ("r.jsonl", GOOD + b'{"prompt": " "}\n', "line 2"),
    "a broken element": ("r.json", b'[{"prompt": "a"},\n{"prompt": NaN}]', "line 2"),
    "a record that is too long": ("r.csv", b"prompt,id\na,1\nb,2,3\n", "line 3: 3 values"),
    "bytes that are no text": ("r.parquet", of_table([b"a", b"\xff"]), "row 1 .*not valid UTF-8"),
}
LISTS = {
    "None": (["a", None], "row 1 of the list is None"),
    "half a pair of surrogates": (["a", "\ud800"], "row 1 of the list"),
    "bytes": ([{"prompt": "a"}, {"prompt": b"a"}], "row 1 of the list: column 'prompt' is of type bytes"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_row_of_a_file_counts_only_within_the_limit(world, kind):
    name, content, problem = FILES[kind]
    world.put(name, content)
    given = {"endpoint": "completions", "input": f"{{here}}/{name}"}
    for limit in ({}, {"limit_rows": 2}):
        with pytest.raises(InvalidArgumentError, match=problem):
            world.run(BATCH, {**given, **limit})
    assert not world.work
    assert world.run(BATCH, {**given, "limit_rows": 1})["counts"]["rows"] == 1
    assert sent(world) == ["a"]
    with pytest.raises(InvalidArgumentError, match=problem):
        world.run(BATCH, {**given, "on_changed_input": "extend"})
    assert sent(world) == ["a"]


@pytest.mark.parametrize("operator", [BATCH, "ClassifyOperator"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_bad_item_of_a_list_counts_only_within_the_limit(world, kind, operator):
    items, problem = LISTS[kind]
    options = {"endpoint": "completions"} if operator == BATCH else {"output": None}
    with pytest.raises(InvalidArgumentError, match=problem):
        world.run(operator, {**options, "input": items, "limit_rows": 2})
    assert not world.work
    world.run(operator, {**options, "input": items, "limit_rows": 1})
    assert sent(world) == ["a"]


def test_a_limit_without_bad_rows_changes_nothing_about_their_policy(world):
    world.put("r.jsonl", GOOD + b"x\n" + GOOD)
    keep = {"on_bad_row": "error", "max_failed_rows": 1, "limit_rows": 2, "endpoint": "completions"}
    assert world.run(BATCH, {**keep, "input": "{here}/r.jsonl"})["counts"]["failures"] == {"bad_row": 1}
    assert [row["output"] for row in rows_in(world.folder / "out")] == ["a", None]
    assert json.loads((world.folder / "out" / "manifest.json").read_bytes())["counts"]["rows"] == 2
