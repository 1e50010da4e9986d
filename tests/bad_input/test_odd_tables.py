"""Tables with types and names that few have: Arrow's list views and time zones, indexes of pandas, structured arrays."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.support.results import rows_in

pd = pytest.importorskip("pandas")

BATCH = "BatchInferenceOperator"


def prompts(world, value, **arguments) -> list[object]:
    """Return what is sent, in the order of the input."""
    world.run(BATCH, {"endpoint": "completions", "input": value, **arguments})
    return [row["output"] for row in rows_in(world.folder / "out")]


def write(world, table) -> str:
    file = io.BytesIO()
    parquet.write_table(table, file)
    world.put("r.parquet", file.getvalue())
    return "{here}/r.parquet"


TYPES = {
    "list view": (pa.list_view(pa.string()), ["a"], '["a"]'),
    "large list view": (pa.large_list_view(pa.int8()), [1], "[1]"),
    "list view of 32-bit floats": (pa.list_view(pa.float32()), [0.1], "[0.1]"),
    "nanoseconds in a time zone": (pa.timestamp("ns", "+05:30"), 1, "1970-01-01T05:30:00.000000001+05:30"),
    "nanoseconds in UTC": (pa.timestamp("ns", "UTC"), 1, "1970-01-01T00:00:00.000000001+00:00"),
}


@pytest.mark.parametrize("form", ["parquet", "table"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_value_of_an_odd_type_is_sent_as_json_has_it(world, kind, form):
    arrow, value, expected = TYPES[kind]
    table = pa.table({"prompt": pa.array([value], arrow)})
    assert prompts(world, table if form == "table" else write(world, table)) == [expected]


FRAME = pd.DataFrame({"prompt": ["a", "b"], "n": [1, 2]}, index=["x", "y"])


def test_rows_that_a_loop_over_a_frame_gives_are_rows(world):
    rows = [row for _, row in FRAME.iterrows()]
    assert prompts(world, rows, prompt="{prompt} {n}") == ["a 1", "b 2"]
    assert prompts(world, [rows, rows[:1]], on_other_run="replace") == ["a", "b", "a"]


def test_series_of_texts_are_pages(world):
    assert prompts(world, [pd.Series(["a"]), pd.Series(["b", "c"], index=[7, 8])]) == ["a", "b", "c"]


@pytest.mark.parametrize("form", ["pandas", "Arrow"])
def test_a_table_whose_columns_all_have_one_name_is_refused(world, form):
    names, rows = ["prompt", "prompt"], [["a", "b"], ["c", "d"]]
    table = pd.DataFrame(rows, columns=names) if form == "pandas" else pa.table(rows, names=names)
    for value in (table, [table, table]):
        with pytest.raises(InvalidArgumentError, match="more than one column 'prompt'"):
            prompts(world, value)


SERIES = {
    "counted values": (
        pd.Series(["a", "a", "b"], name="prompt").value_counts(),
        "{prompt} {count}",
        ["a 2", "b 1"],
    ),
    "sizes of groups": (FRAME.groupby("prompt").size(), "{prompt} {value}", ["a 1", "b 1"]),
    "a column with an index": (FRAME.rename_axis("id")["prompt"], "{id} {prompt}", ["x a", "y b"]),
    "a column of another name": (
        FRAME.rename_axis("id")["prompt"].rename("text"),
        "{id} {prompt}",
        ["x a", "y b"],
    ),
}


@pytest.mark.parametrize("kind", SERIES)
def test_the_named_index_of_a_series_becomes_columns(world, kind):
    series, prompt, expected = SERIES[kind]
    assert prompts(world, series, prompt=prompt) == expected
    assert prompts(world, [series], prompt=prompt, on_other_run="replace") == expected
    first = [text.split()[0 if "prompt} " in prompt else 1] for text in expected]
    assert prompts(world, series, on_other_run="replace") == first


@pytest.mark.parametrize("texts", [[["a", "b"]], [["a", "b"], ["c", "d"]]])
def test_a_matrix_has_rows_and_no_pages(world, texts):
    with pytest.raises(InvalidArgumentError, match=r"row 0 of the list.* 2 values: name them with columns="):
        prompts(world, np.array(texts))
    assert prompts(world, np.array(texts), columns=["id", "prompt"]) == [row[1] for row in texts]


def test_a_matrix_with_one_column_has_a_text_in_each_row(world):
    assert prompts(world, np.array([["a"], ["b"]])) == ["a", "b"]


ODD = {
    "time zone": (pa.array([0], pa.timestamp("us", "Mars/Base")), "time zone is unknown"),
    "field names": (
        pa.StructArray.from_arrays([pa.array([1])] * 2, ["x", "x"]),
        "two fields with the same name",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_value_that_cannot_be_converted_is_refused_with_its_own_reason(world, kind):
    column, text = ODD[kind]
    with pytest.raises(InvalidArgumentError, match=text):
        prompts(world, write(world, pa.table({"prompt": column})))


def test_a_blank_binary_value_in_parquet_is_no_prompt(world):
    path = write(world, pa.table({"prompt": [b"a", b""]}))
    with pytest.raises(InvalidArgumentError, match=r"row 1 .*the prompt would be empty.*Nothing was sent"):
        prompts(world, path)
    assert prompts(world, path, on_bad_row="error", max_failed_rows=1) == ["a", None]


@pytest.mark.parametrize(
    "index", [pd.Index([1], name="prompt"), pd.MultiIndex.from_tuples([(1, 2)], names=["prompt", "day"])]
)
def test_a_column_counts_instead_of_an_index_with_its_name(world, index):
    assert prompts(world, pd.DataFrame({"prompt": ["a"]}, index=index)) == ["a"]


def test_the_rows_of_a_structured_array_have_its_fields(world):
    array = np.array([(1, "a"), (2, "b")], dtype=[("id", "i4"), ("prompt", "U5")])
    assert prompts(world, array, prompt="{id} {prompt}") == ["1 a", "2 b"]


SIBLINGS = {
    "bytes that are not text": pa.array([b"\xff", b"a"]),
    "NaN": pa.array([float("nan"), 1.0]),
    "a year beyond Python's": pa.array([2**60, 0], pa.timestamp("us")),
    "another struct": pa.array([{"b": b"\xff"}, {"b": b"a"}]),
}


@pytest.mark.parametrize("kind", SIBLINGS)
@pytest.mark.parametrize("more", [[], ["v.n"]])
def test_the_fields_of_a_struct_do_not_depend_on_the_others(world, kind, more):
    struct = pa.StructArray.from_arrays(
        [pa.array(["a", "b"]), pa.array([1, 2]), SIBLINGS[kind]], ["name", "n", "odd"]
    )
    path = write(world, pa.table({"id": [1, 2], "v": struct}))
    assert prompts(world, path, prompt="{id} {v.name}", passthrough=more) == ["1 a", "2 b"]
    found = [row.get("v.n") for row in rows_in(world.folder / "out")]
    assert found == ([1, 2] if more else [None, None])


def test_a_struct_that_is_wanted_as_a_whole_must_be_usable(world):
    path = write(world, pa.table({"v": [{"name": "a", "odd": b"\xff"}, {"name": "b", "odd": b"x"}]}))
    arguments = {"on_bad_row": "error", "max_failed_rows": 1, "passthrough": ["v"]}
    assert prompts(world, path, prompt="{v.name}", **arguments) == [None, "b"]


def test_a_column_with_a_dot_and_a_struct_are_told_apart(world):
    path = write(world, pa.table({"v.name": ["X"], "v": [{"name": "Y", "n": 1}]}))
    assert prompts(world, path, prompt="{v.name} {v.n}") == ["X 1"]


def test_a_field_of_a_struct_whose_name_two_columns_have_is_refused(world):
    struct = pa.array([{"name": "a"}])
    with pytest.raises(InvalidArgumentError, match="more than one column 'v'"):
        prompts(world, write(world, pa.table([struct, struct], ["v", "v"])), prompt="{v.name}")


def test_pages_of_tables_may_have_other_columns(world):
    pages = [pd.DataFrame({"prompt": ["a"], "id": [1]}), pa.table({"prompt": ["b"]}), pd.DataFrame()]
    assert prompts(world, pages, passthrough=["id"]) == ["a", "b"]
    assert [row["id"] for row in rows_in(world.folder / "out")] == [1, None]


@pytest.mark.parametrize("pages", [1, 2])
def test_a_repeated_column_of_a_page_is_refused_only_if_it_is_used(world, pages):
    table = pd.DataFrame([[1, 2, "a"]], columns=["id", "id", "prompt"])
    tables = [table, table.iloc[:, 1:]][:pages]
    with pytest.raises(InvalidArgumentError, match="more than one column 'id'"):
        prompts(world, tables, passthrough=["id"])
    assert prompts(world, tables) == ["a"] * pages
