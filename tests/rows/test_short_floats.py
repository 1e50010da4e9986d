"""Numbers that others keep in 32 bits have as few digits as tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_lamini.rows.errors import BadRowError
from airflow_provider_lamini.rows.sources.source import open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NUMBERS = [0.1, None, 1e30, 0.33333334, -0.0, 16777216.0]


def values(given):
    return [row["x"] for row in (found.row for found in open_source(given).read())]


@pytest.fixture
def table():
    return pa.table({"x": pa.array(NUMBERS, pa.float32()), "id": range(len(NUMBERS))})


def test_a_parquet_file_with_32_bit_floats(table, tmp_path):
    pq.write_table(table, tmp_path / "in.parquet")
    assert values(str(tmp_path / "in.parquet")) == NUMBERS


FLOATS = pa.map_(pa.string(), pa.float32())
HALF = np.float16(0.1)
NESTED = {
    "list": (pa.list_(pa.float32()), [0.1, None, 0.2], [0.1, None, 0.2]),
    "list of two": (pa.list_(pa.float32(), 2), [0.1, 0.2], [0.1, 0.2]),
    "large list": (pa.large_list(pa.float32()), [0.1], [0.1]),
    "struct": (
        pa.struct([("a", pa.float32()), ("b", pa.list_(pa.float32()))]),
        {"a": 0.1, "b": [0.3]},
        {"a": 0.1, "b": [0.3]},
    ),
    "map": (FLOATS, [("a", 0.1), ("b", None)], {"a": 0.1, "b": None}),
    "map by number": (pa.map_(pa.float32(), pa.list_(pa.float32())), [(0.1, [0.2])], {"0.1": [0.2]}),
    "maps in a struct in a list": (
        pa.list_(pa.struct([("m", FLOATS), ("n", pa.int8())])),
        [{"m": [("a", 0.1)], "n": 1}, None],
        [{"m": {"a": 0.1}, "n": 1}, None],
    ),
    "halves in a map": (pa.map_(pa.string(), pa.float16()), [("a", HALF)], {"a": 0.1}),
    "halves in a struct": (
        pa.struct([("a", pa.float16()), ("b", pa.list_(pa.float16())), ("c", pa.float64())]),
        {"a": HALF, "b": [HALF, None], "c": float(HALF)},
        {"a": 0.1, "b": [0.1, None], "c": 0.0999755859375},
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_they_are_short_within_other_values_too(tmp_path, name):
    kind, value, expected = NESTED[name]
    table = pa.table({"x": pa.array([value, None], kind)})
    pq.write_table(table, tmp_path / "in.parquet")
    assert values(str(tmp_path / "in.parquet")) == [expected, None]
    assert values(table) == [expected, None]
    pandas = pytest.importorskip("pandas")
    assert values(table.to_pandas(types_mapper=pandas.ArrowDtype)) == [expected, None]


def test_16_bit_floats(tmp_path):
    given = [HALF, None, np.float16(1 / 3), np.float16(65504), np.float16(6e-8), np.float16(-0.0)]
    expected = [0.1, None, 0.3333, 65504.0, 6e-08, -0.0]
    table = pa.table({"x": pa.array(given, pa.float16()), "id": range(6)})
    pq.write_table(table, tmp_path / "in.parquet")
    assert values(str(tmp_path / "in.parquet")) == values(table) == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_16_bit_floats_that_are_not_finite_are_refused(tmp_path, number):
    pq.write_table(pa.table({"x": pa.array([np.float16(number)], pa.float16())}), tmp_path / "in.parquet")
    with pytest.raises(BadRowError, match="column 'x' is NaN or infinite"):
        values(str(tmp_path / "in.parquet"))


def test_repeated_values_of_an_arrow_table():
    assert values(pa.table({"x": pa.array([0.1, 0.1], pa.float32()).dictionary_encode()})) == [0.1, 0.1]


def test_an_arrow_table_and_an_arrow_table_in_pieces(table):
    assert values(table) == NUMBERS
    assert values(pa.concat_tables([table, table])) == NUMBERS * 2


@pytest.mark.parametrize("kind", ["float32", "Float32", "float[pyarrow]", "halffloat[pyarrow]"])
def test_a_frame_of_pandas(kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": pandas.array([0.1, None, 1.5], dtype=kind), "id": [1, 2, 3]})
    assert values(frame) == [0.1, None, 1.5]


def test_a_frame_of_pandas_with_16_bit_floats():
    pandas = pytest.importorskip("pandas")
    assert values(pandas.DataFrame({"x": pandas.array([0.1, np.nan], dtype="float16"), "id": [1, 2]})) == [
        0.1,
        None,
    ]


def test_a_frame_of_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": [0.1, None, 1.5]}, schema={"x": polars.Float32})
    assert values(frame) == [0.1, None, 1.5]
    kinds = polars.Struct({"a": polars.List(polars.Float32), "b": polars.Array(polars.Float32, 2)})
    row = {"a": [0.1, None], "b": [0.2, 0.3]}
    frame = polars.DataFrame({"x": [row, None]}, schema={"x": kinds})
    # The first releases make an object without values of a missing object.
    assert values(frame) == [row, frame["x"].to_list()[1]]
    maps = pa.table({"x": pa.array([[("a", 0.1)], None], FLOATS)})
    if hasattr(polars, "Map"):
        assert values(polars.from_arrow(maps)) == [{"a": 0.1}, None]


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_values_of_numpy_in_a_list_of_rows(kind):
    number = np.array(0.1, kind)
    rows = [{"x": number[()]}, {"x": np.array([[0.1, 2]], kind)}, {"x": np.float64(1 / 3)}]
    assert values(rows) == [0.1, [[0.1, 2.0]], 1 / 3]
