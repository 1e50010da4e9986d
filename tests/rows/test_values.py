"""What values of a row become, whatever library they come from."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from decimal import Decimal
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.values import is_missing, json_value

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


class Color(enum.Enum):
    RED = "red"


CONVERTED = [
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.float64(1.5), 1.5),
    (np.float32(1.5), 1.5),
    (np.float16(2), 2.0),
    (np.longdouble(1.5), 1.5),
    (np.bool_(True), True),  # noqa: FBT003
    (np.str_("a"), "a"),
    (np.array([1, 2]), [1, 2]),
    (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
    (np.array(["a", None], dtype=object), ["a", None]),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
    (np.datetime64("2026-01-02T03:04:05", "ns"), "2026-01-02T03:04:05"),
    (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
    (np.array(["2026-01-02", "NaT"], dtype="M8[D]"), ["2026-01-02", None]),
    (pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00+00:00"),
    (pd.Timestamp("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
    (pd.Series([1, None], dtype="Int64"), [1, None]),
    (pd.Categorical(["a", "b"]), ["a", "b"]),
    (pl.Series([1, None]), [1, None]),
    (pa.scalar(3), 3),
    (pa.array([1, None]), [1, None]),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.10"), "1.10"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4), "03:04:00"),
    (Path("/a/b"), "/a/b"),
    (PurePosixPath("a"), "a"),
    (ObjectStoragePath("memory://b/a#1"), str(ObjectStoragePath("memory://b/a#1"))),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (Color.RED, "red"),
    (dt.timedelta(1, 7384, 500), "P1DT2H3M4.0005S"),
    (dt.timedelta(0), "PT0S"),
    (dt.timedelta(minutes=-90), "-PT1H30M"),
    (dt.timedelta(weeks=2), "P14D"),
    (pd.Period("2026-01", "M"), "2026-01"),
    (pd.Period("2026-01-05", "D"), "2026-01-05"),
    (pd.Timedelta(1), "PT0.000000001S"),
    (pd.Timedelta(hours=-22), "-PT22H"),
    (np.timedelta64(36, "h"), "P1DT12H"),
    ("nan", "nan"),
    ("None", "None"),
    ("NaT", "NaT"),
    ("", ""),
]
MISSING = [
    None,
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    pd.NaT,
    pd.NA,
    pa.scalar(None),
]
REFUSED = {
    "timedelta64": np.timedelta64(1, "M"),
    "Interval": pd.Interval(0, 1),
    "bytes": b"secret",
    "memoryview": memoryview(b"secret"),
    "ndarray": np.array([b"secret"]),
    "void": np.void(b"secret"),
    "complex": np.complex128(1),
    "set": {"secret"},
    "object": object(),
    "NaN": float("nan"),
    "NaN or infinite": np.float32("nan"),
    "infinite": float("inf"),
    "decimal": Decimal("-Infinity"),
    "not finite": Decimal("NaN"),
}


@pytest.mark.parametrize(("value", "plain"), CONVERTED, ids=lambda value: f"{type(value).__name__}")
def test_a_value_becomes_what_it_holds(value, plain):
    converted = json_value({"a": [value]})
    assert converted == {"a": [plain]}
    assert type(converted["a"][0]) is type(plain)


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_a_missing_value_is_null_whatever_library_it_comes_from(value):
    assert json_value([value]) == [None]


@pytest.mark.parametrize("word", REFUSED)
def test_a_value_that_json_cannot_represent_is_named_by_its_type(word):
    with pytest.raises(ValueError, match=word) as caught:
        json_value({"a": REFUSED[word]})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "NaT", "<NA>", "null", ""])
def test_a_text_is_never_a_missing_value(text):
    assert not is_missing(text)


NANOSECONDS = 1_767_323_045_123_456_789
MOMENT = "2026-01-02T03:04:05.123456789"
FRAMES = {
    "an Arrow table": pa.table(
        {
            "moment": pa.array([NANOSECONDS, None], pa.timestamp("ns")),
            "time": pa.array([1_500, 1_001], pa.time64("ns")),
            "bytes": pa.array([b"a", None]),
            "number": [1.5, None],
            "key": pa.array([uuid.UUID(int=1).bytes, None], pa.uuid()),
        }
    ),
    "a frame of polars": pl.DataFrame(
        {
            "moment": pl.Series([NANOSECONDS, None]).cast(pl.Datetime("ns")),
            "time": pl.Series([1_500, 1_001]).cast(pl.Time),
            "bytes": [b"a", None],
            "number": [1.5, float("nan")],
            "key": ["00000000-0000-0000-0000-000000000001", None],
        }
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_table_gives_each_value_whole(name):
    first, second = (found.row for found in open_source(FRAMES[name]).read())
    assert first == {
        "moment": MOMENT,
        "time": "00:00:00.000001500",
        "bytes": "a",
        "number": 1.5,
        "key": "00000000-0000-0000-0000-000000000001",
    }
    assert second == dict.fromkeys(first) | {"time": "00:00:00.000001001"}


def test_moments_of_polars_keep_their_zone_and_whole_microseconds():
    moments = pl.Series([NANOSECONDS]).cast(pl.Datetime("ns", "Europe/Warsaw"))
    frame = pl.DataFrame({"zone": moments, "whole": [dt.time(3, 4, 5)]})
    (found,) = open_source(frame).read()
    assert found.row == {"zone": "2026-01-02T04:04:05.123456789+01:00", "whole": "03:04:05"}


@pytest.mark.parametrize("name", ["arrow", "polars"])
def test_a_date_that_python_does_not_have_is_one_clear_error(name):
    seconds = 10_000 * 366 * 86_400
    tables = {
        "arrow": pa.table({"moment": pa.array([seconds], pa.timestamp("s"))}),
        "polars": pl.DataFrame({"moment": pl.Series([seconds * 1000]).cast(pl.Datetime("ms"))}),
    }
    with pytest.raises(
        InputError, match=r"rows 0 to 0 that Python does not have.*Convert the column to text"
    ):
        list(open_source(tables[name]).read())


UNUSABLE = {
    "rows": [{"text": "a", "raw": 1}, {"text": "b", "raw": float("nan")}, {"text": "c", "raw": {"x": b"d"}}],
    "a frame of pandas": pd.DataFrame({"text": ["a", "b", "c"], "raw": [1, {3}, object()]}),
    "a table": pa.table({"text": ["a", "b", "c"], "raw": pa.array([b"1", b"\xff", b"\xfe"])}),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_value_that_nobody_needs_makes_no_bad_row(name):
    source = open_source(UNUSABLE[name])
    assert [found.row["text"] for found in source.read(columns=["text"])] == ["a", "b", "c"]
    assert set(source.columns()) == {"text", "raw"}
    for needed in (["text", "raw"], ["raw.x"], None):
        with pytest.raises(BadRowError, match="row 1 of the list: column 'raw' "):
            list(source.read(columns=needed))


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_bad_row_keeps_its_other_columns(name):
    source = open_source(UNUSABLE[name], keep_bad=True)
    (batch,) = source.batches(columns=["text", "raw"])
    assert sorted(batch.bad) == [1, 2]
    assert [row["text"] for row in batch.rows] == ["a", "b", "c"]
    (batch,) = source.batches(columns=["text"])
    assert batch.bad == {}
