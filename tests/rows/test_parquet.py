from __future__ import annotations

import datetime as dt
import decimal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.columns import Table, concatenate, kinds_of
from airflow_provider_lamini.rows.errors import BadRowError, InputError, MissingColumnError
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import validate_input

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXT = PromptTemplate.parse("text")


@pytest.fixture
def table(tmp_path: Path):
    def write(columns: dict, name: str = "a.parquet", **options) -> str:
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **options)
        return str(path)

    return write


def rows_of(path: str, **options) -> list[dict]:
    return [each.row for each in open_source(path).read(**options)]


def test_values_are_converted_to_json(table):
    path = table(
        {
            "text": ["a", None],
            "number": [1, 2],
            "share": [0.5, None],
            "flag": [True, False],
            "many": [["a"], []],
            "deep": [{"x": 1, "y": [1.5]}, None],
            "kind": pa.array(["k", "l"]).dictionary_encode(),
            "nothing": pa.nulls(2),
        }
    )
    first = {
        "text": "a",
        "number": 1,
        "share": 0.5,
        "flag": True,
        "many": ["a"],
        "deep": {"x": 1, "y": [1.5]},
    }
    second = {"text": None, "number": 2, "share": None, "flag": False, "many": [], "deep": None}
    assert rows_of(path) == [first | {"kind": "k", "nothing": None}, second | {"kind": "l", "nothing": None}]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_each_type_of_text_is_read(table, kind):
    path = table({"text": pa.array(["a", "b\u00e9"], kind)})
    assert rows_of(path) == [{"text": "a"}, {"text": "b\u00e9"}]
    assert validate_input(open_source(path), TEXT).characters == 3


def test_dates_times_and_decimals_become_text_without_loss(table):
    path = table(
        {
            "day": [dt.date(2026, 1, 2)],
            "moment": [dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)],
            "time": [dt.time(3, 4)],
            "price": [decimal.Decimal("1.10")],
            "days": [[dt.date(2026, 1, 2)]],
        }
    )
    assert rows_of(path) == [
        {
            "day": "2026-01-02",
            "moment": "2026-01-02T03:04:05.000006+00:00",
            "time": "03:04:00",
            "price": "1.10",
            "days": ["2026-01-02"],
        }
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([dt.timedelta(1)]), "P1D"),
        (pa.array([[dt.timedelta(hours=1)]]), ["PT1H"]),
        (pa.array([{"x": dt.timedelta(1)}]), {"x": "P1D"}),
        (pa.array([[("a", dt.timedelta(1))]], pa.map_(pa.string(), pa.duration("us"))), {"a": "P1D"}),
        (pa.array([None], pa.duration("s")), None),
    ],
    ids=["duration", "list", "struct", "map", "null"],
)
def test_durations_become_text(table, column, value):
    assert rows_of(table({"id": [1], "x": column})) == [{"id": 1, "x": value}]


@pytest.mark.parametrize(
    "column", [[0.5, float("inf")], [[1.0], [float("inf")]], [{"x": 1.0}, {"x": float("-inf")}]]
)
def test_the_error_names_a_row_with_a_number_that_json_lacks(table, column):
    with pytest.raises(
        BadRowError, match=r"row 1 \(a\.parquet, row group 0, row 1 of it\): column 'x' is NaN or infinite"
    ):
        rows_of(table({"x": column}))


def test_only_the_needed_columns_are_read(table):
    path = table({"a": [1, 2], "b": [3, 4], "a.b": [5, 6]})
    assert rows_of(path, columns=("a",)) == [{"a": 1}, {"a": 2}]
    assert rows_of(path, columns=("b", "a.b")) == [{"b": 3, "a.b": 5}, {"b": 4, "a.b": 6}]
    assert rows_of(path, columns=()) == [{}, {}]


def test_the_error_names_a_missing_column_and_the_existing_ones(table):
    with pytest.raises(MissingColumnError, match=r"a\.parquet has no column 'c'. Existing columns: a, b\."):
        list(open_source(table({"a": [1], "b": [2]})).batches(columns=("c",), required=("c",)))


def test_reading_continues_in_the_middle_of_a_row_group(table):
    path = table({"n": list(range(5000))}, row_group_size=2100)
    source = open_source(path)
    straight = [(each.index, each.row["n"], each.location) for each in source.read()]
    assert [n for _, n, _ in straight] == list(range(5000))
    for each in source.read():
        if each.index in {0, 1, 1023, 1024, 2098, 2099, 2100, 4199, 4998, 4999}:
            rest = [(one.index, one.row["n"], one.location) for one in source.read(each.after)]
            assert rest == straight[each.index + 1 :]
    assert next(iter(source.chunks(100, Position(2150, 0, 1, 50)))).rows[0] == {"n": 2150}


def test_a_file_without_rows_has_none(table):
    assert rows_of(table({"a": pa.array([], pa.string())})) == []


def test_the_error_names_an_incomplete_file(tmp_path: Path, table):
    whole = Path(table({"a": [str(n) for n in range(5000)]})).read_bytes()
    for content in (b"", b"PAR1", b"a,b\n1,2\n", whole[:-20], whole[20:]):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"b\.parquet is (not a complete Parquet file|damaged)"):
            rows_of(str(tmp_path / "b.parquet"))
    damaged = bytearray(whole)
    damaged[4:2000] = b"\xff" * 1996
    (tmp_path / "b.parquet").write_bytes(damaged)
    with pytest.raises((InputError, BadRowError), match=r"b\.parquet"):
        rows_of(str(tmp_path / "b.parquet"))


def test_gzipped_parquet_is_refused(tmp_path: Path):
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    with pytest.raises(InputError, match="Parquet in gzip is not supported"):
        open_source(str(tmp_path / "a.parquet.gz"))


def test_without_pyarrow_the_error_names_the_extra(table):
    path = table({"a": [1]})
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from airflow_provider_lamini.rows.errors import MissingExtraError\n"
        "from airflow_provider_lamini.rows.sources.source import open_source\n"
        f"try: list(open_source({path!r}).read())\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "airflow-provider-lamini[parquet]" in done.stdout


ODD = {
    "number": [1, None, 2**60],
    "share": [0.5, None, 2.0],
    "half": [0.5, None, 2.0],
    "flag": [True, None, False],
    "text": ["a", "b", "c"],
    "nothing": [None] * 3,
    "kind": ["k", "l", "l"],
    "day": [dt.date(2026, 1, 2), None, None],
    "many": [["x"], None, []],
    "large": [2**63, 1, None],
}
TYPES = {
    "half": pa.float16,
    "nothing": pa.null,
    "kind": lambda: pa.dictionary(pa.int32(), pa.string()),
    "large": pa.uint64,
}


@pytest.fixture
def odd(table):
    """A file of columns of many types."""
    return table(
        {name: pa.array(values, TYPES[name]() if name in TYPES else None) for name, values in ODD.items()}
    )


@pytest.mark.parametrize("column", list(ODD))
def test_validation_by_columns_finds_what_rows_have(odd, column):
    """Arrow is asked about plain columns; what it says is what Python would find in the rows."""
    (batch,) = open_source(odd).batches(columns=[column])
    values = [row[column] for row in batch.rows]
    assert len(batch) == len(values) == 3
    assert batch.kinds(column) - {type(None)} == kinds_of(values) - {type(None)}
    assert batch.first_missing(column) == (values.index(None) if None in values else None)
    assert batch.has(column)
    assert not batch.has("other")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            {"text": ["a"] * 2000 + [None]},
            r"row 2000 \(a\.parquet, row group 0, row 2000 of it\) has no value in",
        ),
        (
            {"text": ["a", "b"], "id": [1.0, float("nan")]},
            r"row 1 \(a\.parquet.*column 'id' is NaN or infinite",
        ),
        ({"text": [1.0, float("inf")]}, r"row 1 \(a\.parquet.*column 'text' is NaN or infinite"),
        ({"text": ["a"], "id": [[float("nan")]]}, r"row 0 \(a\.parquet.*column 'id' is NaN or infinite"),
    ],
    ids=["no value", "NaN passed through", "infinite", "NaN in a list"],
)
def test_validation_by_columns_names_the_bad_row(table, columns, reason):
    with pytest.raises((BadRowError, MissingColumnError), match=reason):
        validate_input(
            open_source(table(columns)),
            PromptTemplate.parse("text"),
            passthrough=[name for name in columns if name == "id"],
        )


def test_validation_by_columns_refuses_text_that_is_not_utf_8(table):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(BadRowError, match=r"a\.parquet, row group 0: a text is not valid UTF-8"):
        validate_input(open_source(table({"text": broken})), TEXT)


def test_a_table_behaves_like_rows():
    rows = Table({"a": [1, 2, 3], "b": ["x", None, "z"]}, 3)
    as_dicts = [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {"a": 3, "b": "z"}]
    assert list(rows) == as_dicts
    assert (rows[0], rows[-1], list(rows[1:])) == (as_dicts[0], as_dicts[2], as_dicts[1:])
    assert list(concatenate([rows[:1], rows[1:]])) == as_dicts
    assert list(concatenate([rows[:1], as_dicts[1:]])) == as_dicts
    assert list(Table({}, 2)) == [{}, {}]
    assert list(Table({}, 3)[1:]) == [{}, {}]
    with pytest.raises(IndexError):
        rows[3]


def test_maps_become_objects_and_binary_text(table):
    nested = pa.list_(pa.struct([("m", pa.map_(pa.int64(), pa.binary()))]))
    path = table(
        {
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "days": pa.array([[(dt.date(2026, 1, 2), 1)], []], pa.map_(pa.date32(), pa.int64())),
            "bytes": pa.array(["größe".encode(), None]),
            "fixed": pa.array([b"ab", b"cd"], pa.binary(2)),
            "nested": pa.array([[{"m": [(7, b"x")]}], None], nested),
        }
    )
    assert rows_of(path) == [
        {
            "map": {"a": 1},
            "days": {"2026-01-02": 1},
            "bytes": "größe",
            "fixed": "ab",
            "nested": [{"m": {"7": "x"}}],
        },
        {"map": None, "days": {}, "bytes": None, "fixed": "cd", "nested": None},
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1970-01-01T00:00:00.000000001"),
        (1_000, "1970-01-01T00:00:00.000001"),
        (0, "1970-01-01T00:00:00"),
    ],
)
def test_nanoseconds_keep_their_digits(table, value, text):
    assert rows_of(table({"a": pa.array([value, None], pa.timestamp("ns"))})) == [{"a": text}, {"a": None}]


@pytest.mark.parametrize(
    ("value", "text"), [(1, "00:00:00.000000001"), (1_000, "00:00:00.000001"), (0, "00:00:00")]
)
def test_nanoseconds_of_times_keep_their_digits(table, value, text):
    assert rows_of(table({"a": pa.array([value, None], pa.time64("ns"))})) == [{"a": text}, {"a": None}]


def test_types_on_top_of_others_are_what_they_stand_for(table):
    columns = {
        "uuid": pa.array([UUID(int=1).bytes, None], pa.uuid()),
        "json": pa.array(['{"a": 1}', None], pa.json_()),
        "flag": pa.array([1, None], pa.bool8()),
    }
    first, second = rows_of(table(columns))
    assert first == {"uuid": str(UUID(int=1)), "json": '{"a": 1}', "flag": True}
    assert second == dict.fromkeys(columns)
