from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import lzma
import os
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.errors import BadRowError, InputChangedError, InputError, OutputError
from airflow_provider_lamini.rows.sources.options import InputOptions
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage import objects
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(given_input: object) -> list[dict]:
    return [each.row for each in open_source(given_input).read()]


class TestLists:
    def test_texts_become_rows_with_a_prompt(self):
        assert rows_of(["a", "b"]) == [{"prompt": "a"}, {"prompt": "b"}]

    def test_mappings_are_rows(self):
        assert rows_of(({"a": 1}, {"b": [1, {"c": None}]})) == [{"a": 1}, {"b": [1, {"c": None}]}]

    def test_an_empty_list_has_no_rows(self):
        assert rows_of([]) == []

    def test_numbers_count_as_texts(self):
        """``render_template_as_native_obj`` makes numbers of prompts such as ``"42"``."""
        assert rows_of([42, 1.5]) == [{"prompt": "42"}, {"prompt": "1.5"}]

    @pytest.mark.parametrize(
        "item",
        [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, (None,)],
        ids=repr,
    )
    def test_a_missing_item_is_a_row_without_a_prompt(self, item):
        assert rows_of(["a", item]) == [{"prompt": "a"}, {"prompt": None}]
        source = open_source(["a", item], options=InputOptions(columns=("body",)))
        assert [found.row for found in source.read()] == [{"body": "a"}, {"body": None}]

    def test_dates_and_decimals_become_text(self):
        moment = dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
        rows = rows_of([{"offset": moment, "day": moment.date(), "price": Decimal("1.10")}])
        assert rows == [{"offset": "2026-01-02T03:00:00+00:00", "day": "2026-01-02", "price": "1.10"}]

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            (True, "is of type bool: a text or a mapping"),
            (["secret", 1], "is of type list, with 2 values: name them with columns="),
            (b"secret", "it is of type bytes, which JSON cannot represent"),
            (float("inf"), "it is NaN or infinite"),
            ({"a": 1, "b": float("inf")}, "column 'b' is NaN or infinite"),
            ({"a": {"x": b"secret"}}, "column 'a.x' is of type bytes"),
            ({"a": {1: 2}}, "column 'a' has a key of type int"),
            ({1: 2}, "it has a key of type int"),
            ({"a": {1, 2}}, "column 'a' is of type set"),
            ({"a": "\ud800"}, "column 'a' is text with half a surrogate pair"),
            ({"a": Decimal("NaN")}, "column 'a' is a decimal that is not finite"),
        ],
    )
    def test_the_error_names_an_item_that_is_not_a_row_without_its_content(self, item, reason):
        with pytest.raises(BadRowError) as caught:
            rows_of(["fine", item])
        assert str(caught.value).startswith("row 1 of the list")
        assert reason in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_a_list_that_contains_itself_is_refused(self):
        knot: list = []
        knot.append(knot)
        with pytest.raises(BadRowError, match="nested more than 100 levels deep"):
            rows_of([{"a": knot}])


class TestKinds:
    @pytest.mark.parametrize("wrong", [None, 1, 1.5, True, {"a": 1}, b"x", {"a"}, object()])
    def test_a_value_that_is_not_an_input_is_refused(self, wrong):
        with pytest.raises(InputError, match=r"The input is (None|of type)"):
            open_source(wrong)

    @pytest.mark.parametrize("text", ["", "  ", "\n"])
    def test_an_empty_text_is_refused(self, text):
        with pytest.raises(InputError, match="empty text"):
            open_source(text)

    @pytest.mark.parametrize(
        "text",
        ["What is a secret?", "Summarize:\nsecret.csv", "['secret', 'b']", "x" * 5000, "secret\0", "a * b?"],
    )
    def test_a_text_that_is_not_a_path_suggests_a_list(self, text):
        with pytest.raises(InputError, match="pass a list of them") as caught:
            open_source(text)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("path", ["no/such.jsonl", "/no/such.csv.gz", "~/no-such.parquet", "no.tsv"])
    def test_the_error_names_a_missing_file(self, path):
        with pytest.raises(InputError, match=f"The input {path} does not exist"):
            open_source(path)

    def test_the_error_names_a_glob_without_a_match(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"No file matches the input .*/x\*\.jsonl"):
            open_source(f"{tmp_path}/x*.jsonl")

    def test_a_folder_is_refused_with_a_remedy(self, tmp_path: Path):
        with pytest.raises(
            InputError, match=rf"{tmp_path} is a folder. Pass its files instead, as in {tmp_path}/\*\.jsonl"
        ):
            open_source(f"{tmp_path}/")

    def test_an_unknown_format_is_refused(self, file):
        with pytest.raises(InputError, match=r"a\.md: unknown file format.*input_format"):
            open_source(file("a.md", "x"))

    def test_a_scheme_without_a_file_system_is_refused_with_a_remedy(self):
        with pytest.raises(InputError, match=r"no file system for nosuch://\. Install its provider"):
            open_source("nosuch://bucket/a.jsonl?token=secret")


class TestFiles:
    def test_a_path_may_be_relative_or_a_file_uri(self, file, tmp_path: Path, monkeypatch):
        path = file("a b.jsonl", '{"a": 1}\n')
        monkeypatch.chdir(tmp_path)
        for text in (path, "a b.jsonl", "./a b.jsonl", f"file://{path}"):
            assert rows_of(text) == [{"a": 1}]

    def test_the_files_of_a_glob_are_read_in_order_and_hidden_ones_are_not(self, file, tmp_path: Path):
        for name in ("b/2.jsonl", "a/10.jsonl", "a/9.jsonl", ".h.jsonl", "a/.9.jsonl"):
            file(name, json.dumps({"from": name}))
        names = [each["from"] for each in rows_of(f"{tmp_path}/**/*.jsonl")]
        assert names == ["a/10.jsonl", "a/9.jsonl", "b/2.jsonl"]

    def test_indices_continue_across_files_and_formats(self, file, tmp_path: Path):
        file("1.jsonl", '{"a": "1"}\n{"a": "2"}\n')
        file("2.jsonl", "")
        file("3.csv", "a\n3\n")
        file("4.jsonl.gz", gzip.compress(b'{"a": "4"}'))
        source = open_source(f"{tmp_path}/*")
        assert [(each.index, each.row["a"], each.location) for each in source.read()] == [
            (0, "1", "1.jsonl, line 1"),
            (1, "2", "1.jsonl, line 2"),
            (2, "3", "3.csv, line 2"),
            (3, "4", "4.jsonl.gz, line 1"),
        ]
        assert source.describe() == f"{tmp_path}/* (0.1 kB, 4 files)"
        assert source.name() == f"{tmp_path}/*"

    def test_files_with_the_same_name_in_different_folders_are_distinguished(self, file, tmp_path: Path):
        file("x/a.jsonl", "{}\n")
        file("y/a.jsonl", "{\n")
        with pytest.raises(BadRowError, match=rf"{tmp_path}/y/a\.jsonl, line 1"):
            rows_of(f"{tmp_path}/*/a.jsonl")

    def test_brackets_in_an_existing_name_are_not_a_pattern(self, file):
        assert rows_of(file("a[1].jsonl", '{"a": 1}')) == [{"a": 1}]

    def test_objects_are_read_through_the_file_system_of_airflow(self, object_store):
        object_store.pipe("/bucket/in/b.jsonl", b'{"a": 2}\n')
        object_store.pipe("/bucket/in/a.jsonl", b'{"a": 1}\n')
        object_store.pipe("/bucket/in/c.csv.gz", gzip.compress(b"a\n3\n"))
        assert rows_of("memory://bucket/in/b.jsonl") == [{"a": 2}]
        source = open_source("memory://bucket/in/*")
        assert [each.row for each in source.read()] == [{"a": 1}, {"a": 2}, {"a": "3"}]
        second = next(islice(source.read(), 1, None))
        assert [each.index for each in source.read(second.after)] == [2]
        with pytest.raises(InputError, match=r"memory://bucket/in/d\.jsonl does not exist"):
            open_source("memory://bucket/in/d.jsonl")
        with pytest.raises(InputError, match="No file matches"):
            open_source("memory://bucket/in/x*.jsonl")
        with pytest.raises(InputError, match="is a folder"):
            open_source("memory://bucket/in")

    def test_a_password_or_token_in_a_uri_is_not_shown(self, object_store):
        object_store.pipe("/bucket/a.jsonl", b"{}")
        with pytest.raises(InputError) as caught:
            open_source("memory://bucket/b.jsonl?token=secret#secret")
        assert "secret" not in str(caught.value)

    def test_the_error_names_a_file_without_read_permission(self, file, tmp_path: Path):
        source = open_source(file("a.jsonl", "{}"))
        (tmp_path / "a.jsonl").unlink()
        with pytest.raises(InputError, match=r"a\.jsonl cannot be opened: No such file or directory"):
            list(source.read())


class TestStamp:
    def test_it_is_the_same_while_the_files_are(self, file, tmp_path: Path):
        file("a.jsonl", '{"a": 1}')
        glob = f"{tmp_path}/*.jsonl"
        assert open_source(glob).version() == open_source(glob).version()

    def test_it_changes_with_time_size_and_number_of_files(self, file, tmp_path: Path):
        path = file("a.jsonl", '{"a": 1}')
        source = open_source(f"{tmp_path}/*.jsonl")
        seen = {source.version()}
        os.utime(path, (1, 1))
        seen.add(source.version())
        file("a.jsonl", '{"a": 12}')
        os.utime(path, (1, 1))
        seen.add(source.version())
        file("b.jsonl", "")
        seen.add(source.version())
        assert len(seen) == 4

    def test_it_changes_with_an_object_of_the_same_size(self, object_store, monkeypatch):
        monkeypatch.setattr(objects, "_SAME_ANSWER_SECONDS", -1.0)
        object_store.pipe("/bucket/a.jsonl", b"{}")
        source = open_source("memory://bucket/a.jsonl")
        before = source.version()
        assert source.version() == before
        object_store.rm("/bucket/a.jsonl")
        object_store.pipe("/bucket/a.jsonl", b"[]")
        assert source.version() != before

    def test_it_changes_with_the_rows_of_a_list(self):
        assert (
            open_source(["a"]).version()
            == open_source([{"prompt": "a"}]).version()
            != open_source(["b"]).version()
        )

    def test_a_position_into_a_missing_file_is_refused(self, file, tmp_path: Path):
        file("a.jsonl", "{}")
        with pytest.raises(InputChangedError, match="file number 1"):
            list(open_source(f"{tmp_path}/*.jsonl").read(Position(1, 1)))

    def test_a_position_beyond_the_end_of_a_list_is_refused(self):
        with pytest.raises(InputError, match="has 1 row,"):
            list(open_source(["a"]).read(Position(2)))


def test_a_position_is_small_and_survives_json():
    position = Position(10, 1, 300, 12)
    data = msgspec.json.encode(position)
    assert data == b'{"row":10,"file":1,"offset":300,"line":12}'
    assert msgspec.json.decode(data, type=Position) == position
    assert msgspec.json.encode(Position()) == b"{}"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=10)


def _jsonl(rows: list[str], blanks: bool) -> bytes:
    return "".join(
        json.dumps({"a": row}) + ("\n\n" if blanks and len(row) % 2 else "\n") for row in rows
    ).encode()


def _csv(rows: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows([["a"], *([row] for row in rows)])
    return text.getvalue().encode()


def _array(rows: list[str], indent: int | None) -> bytes:
    return json.dumps([{"a": row} for row in rows], indent=indent).encode()


def _parquet(rows: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(rows, pa.string())}), file, row_group_size=3)
    return file.getvalue()


FORMATS = {
    "plain": ("jsonl", lambda rows: _jsonl(rows, blanks=False)),
    "blanks": ("jsonl", lambda rows: _jsonl(rows, blanks=True)),
    "gz": ("jsonl.gz", lambda rows: gzip.compress(_jsonl(rows, blanks=False))),
    "mark": ("jsonl", lambda rows: b"\xef\xbb\xbf" + _jsonl(rows, blanks=False)),
    "utf-16": ("csv", lambda rows: _csv(rows).decode().encode("utf-16")),
    "csv": ("csv", _csv),
    "array": ("json", lambda rows: _array(rows, 1)),
    "array on a line": ("json", lambda rows: b"\xef\xbb\xbf" + _array(rows, None)),
    "array.xz": ("json.xz", lambda rows: lzma.compress(_array(rows, None))),
    "parquet": ("parquet", _parquet),
}


@given(
    files=st.lists(st.lists(texts, max_size=8), min_size=1, max_size=3),
    formats=st.lists(st.sampled_from([*FORMATS, "list"]), min_size=3, max_size=3),
    size=st.integers(1, 7),
)
def test_chunks_and_positions_give_each_row_once_in_order(tmp_path_factory, files, formats, size):
    """Whatever the format: chunks cover the rows, and reading goes on from any chunk's end, and from any row."""
    folder = tmp_path_factory.mktemp("in")
    if "list" in formats:
        source = open_source([{"a": row} for rows in files for row in rows])
    else:
        for number, (rows, kind) in enumerate(zip(files, formats, strict=False)):
            suffix, build = FORMATS[kind]
            (folder / f"{number}.{suffix}").write_bytes(build(rows))
        source = open_source(f"{folder}/*")

    expected = [{"a": row} for rows in files for row in rows]
    assert [each.row for each in source.read()] == expected
    chunks = list(source.chunks(size))
    assert [row for chunk in chunks for row in chunk.rows] == expected
    assert [len(chunk.rows) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    for number, chunk in enumerate(chunks):
        again = next(source.chunks(size, chunk.start))
        assert (list(again.rows), again.after) == (list(chunk.rows), chunk.after)
        assert [list(each.rows) for each in source.chunks(size, chunk.after)] == [
            list(each.rows) for each in chunks[number + 1 :]
        ]
    for each in source.read():
        assert [one.row for one in source.read(each.after)] == expected[each.index + 1 :]


@pytest.mark.parametrize(
    "value",
    [
        "dbfs:/mnt/a/b",
        "dbfs:/mnt/in.jsonl",
        "file:/tmp/in.csv",
        ["dbfs:/a/b"],
        ["s3:/bucket/a.jsonl", "s3:/bucket/b.jsonl"],
        ["dbfs:/my folder/in.jsonl"],
    ],
)
def test_a_uri_with_one_slash_is_neither_a_prompt_nor_a_local_path(value):
    with pytest.raises(
        InputError, match=r"begins with \w+:/ and one slash, so it is neither a URI nor a local path"
    ):
        open_source(value)


def test_a_folder_is_no_uri_with_one_slash():
    with pytest.raises(OutputError, match="begins with dbfs:/ and one slash"):
        OutputFolder("dbfs:/out")


@pytest.mark.parametrize("text", ["note:/ this is a text", "a:/b", "Ratio 1:/2"])
def test_a_text_with_a_colon_and_a_slash_stays_a_text(text):
    assert [found.row for found in open_source([text]).read()] == [{"prompt": text}]
