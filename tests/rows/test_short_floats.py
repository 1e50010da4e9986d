"""Numbers that others keep in 32 bits have as few digits as tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(pa.float32()), [0.1, None, 0.2]),
        (pa.list_(pa.float32(), 2), [0.1, 0.2]),
        (pa.large_list(pa.float32()), [0.1]),
        (pa.struct([("a", pa.float32()), ("b", pa.list_(pa.float32()))]), {"a": 0.1, "b": [0.3]}),
    ],
)
def test_they_are_short_within_lists_and_structs_too(tmp_path, kind, value):
    pq.write_table(pa.table({"x": pa.array([value, None], kind)}), tmp_path / "in.parquet")
    assert values(str(tmp_path / "in.parquet")) == [value, None]


def test_an_arrow_table_and_an_arrow_table_in_pieces(table):
    assert values(table) == NUMBERS
    assert values(pa.concat_tables([table, table])) == NUMBERS * 2


@pytest.mark.parametrize("kind", ["float32", "Float32", "float[pyarrow]"])
def test_a_frame_of_pandas(kind):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": pandas.array([0.1, None, 1.5], dtype=kind), "id": [1, 2, 3]})
    assert values(frame) == [0.1, None, 1.5]


def test_a_frame_of_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": [0.1, None, 1.5]}, schema={"x": polars.Float32})
    assert values(frame) == [0.1, None, 1.5]
    kinds = polars.Struct({"a": polars.List(polars.Float32), "b": polars.Array(polars.Float32, 2)})
    row = {"a": [0.1, None], "b": [0.2, 0.3]}
    assert values(polars.DataFrame({"x": [row, None]}, schema={"x": kinds})) == [row, None]


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_values_of_numpy_in_a_list_of_rows(kind):
    number = np.array(0.1, kind)
    rows = [{"x": number[()]}, {"x": np.array([[0.1, 2]], kind)}, {"x": np.float64(1 / 3)}]
    assert values(rows) == [0.1, [[0.1, 2.0]], 1 / 3]
