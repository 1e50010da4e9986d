from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.rows.batch import MAX_LINE
from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.source import open_source


def rows_of(path: str, **options) -> list[dict]:
    return [each.row for each in open_source(path).read(**options)]


def places_of(path: str) -> list[str]:
    return [each.location for each in open_source(path).read()]


def test_each_line_is_a_row(file):
    path = file("a.jsonl", '{"a": 1, "b": "x"}\n{"a": null, "b": [1, {"c": true}]}\n')
    assert rows_of(path) == [{"a": 1, "b": "x"}, {"a": None, "b": [1, {"c": True}]}]


def test_a_text_is_a_row_with_the_column_prompt(file):
    assert rows_of(file("a.jsonl", '"one"\n{"prompt": "two"}\n')) == [{"prompt": "one"}, {"prompt": "two"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "A.JSONL"])
def test_the_file_name_decides_the_format(file, name):
    assert rows_of(file(name, '{"a": 1}\n')) == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('{"a": 1}\n{"a": 2}', [1, 2]),
        ('{"a": 1}\r\n{"a": 2}\r\n', [1, 2]),
        ('{"a": 1}\r\n{"a": 2}\n', [1, 2]),
        ('\n{"a": 1}\n \t\r\n\n{"a": 2}\n\n', [2, 5]),
        ('  {"a": 1}  \n\t{"a": 2}\n', [1, 2]),
        ('\ufeff{"a": 1}\n{"a": 2}\n', [1, 2]),
    ],
)
def test_line_ends_blank_lines_and_a_byte_order_mark_are_accepted(file, content, lines):
    """The numbers of lines stay right, because errors name them."""
    path = file("a.jsonl", content)
    assert rows_of(path) == [{"a": 1}, {"a": 2}]
    assert places_of(path) == [f"a.jsonl, line {number}" for number in lines]


@pytest.mark.parametrize("between", ["", "\n", "\r\n\r\n", " "])
def test_objects_may_span_lines_if_the_first_one_does(file, between):
    rows = [{"a": 1, "b": {"c": [{}, "x\u2028{"]}}, {"a": 2}, {"a": 3}]
    path = file(
        "a.json", "\ufeff" + between.join(json.dumps(row, indent=2, ensure_ascii=False) for row in rows)
    )
    assert rows_of(path) == rows
    source = open_source(path)
    for number, found in enumerate(source.read(), 1):
        assert [each.row for each in source.read(found.after)] == rows[number:]
    assert source.notes() == "read as objects that span lines (a.json)"


def test_the_place_of_an_object_is_the_line_of_its_end(file):
    assert places_of(file("a.json", '\n{\n"a": 1\n}\n{"a": 2}\n{\n}')) == [
        f"a.json, line {line}" for line in (4, 5, 7)
    ]


TABLE = {"prompt": {"0": "a", "1": "b"}, "id": {"0": 1, "1": 2}}


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('[{"a": 1}, {"a": 2}]', [1, 1]),
        ('[\n  {"a": 1},\n  {"a": 2}\n]\n', [2, 3]),
        ('[\n{\n"a": 1\n},\n{\n"a": 2\n}\n]', [4, 7]),
    ],
    ids=["one line", "lines", "several lines each"],
)
def test_the_place_of_an_element_of_an_array_is_the_line_of_its_end(file, content, lines):
    assert places_of(file("a.json", content)) == [f"a.json, line {line}" for line in lines]


@pytest.mark.parametrize("indent", [None, 2])
def test_the_columns_of_a_table_are_no_row(file, indent):
    path = file("a.json", json.dumps(TABLE, indent=indent))
    for columns in (None, ["prompt"]):
        with pytest.raises(InputError, match=r"columns of a table, .* orient='records' and lines=True"):
            rows_of(path, columns=columns)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": {"0": "a", "2": "b"}},
        {"prompt": {}},
        {"prompt": {"0": "a"}, "id": 1},
        {"prompt": ["a"]},
        {},
    ],
)
def test_an_object_that_is_no_table_is_a_row(file, row):
    assert rows_of(file("a.json", json.dumps(row))) == [row]
    assert rows_of(file("b.json", json.dumps(TABLE) + "\n" + json.dumps(row))) == [TABLE, row]


def test_an_empty_file_has_no_rows(file):
    assert rows_of(file("a.jsonl", "")) == []
    assert rows_of(file("b.jsonl", "\n\r\n  \n")) == []
    assert rows_of(file("c.jsonl", b"\xef\xbb\xbf")) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'"\xc3"', "not valid UTF-8"),
        (b'{"a": "\t"}', "not valid JSON"),
        (b'{"a": 1}{"a": 2}', "not valid JSON"),
        (b'{"a": 1} {"a": 2}', "not valid JSON"),
        (b'{"a": 1},', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"secret words", "not valid JSON"),
        (b"[1]", "not an array"),
        (b"[", "an array of all rows"),
        (b"1", "not a number"),
        (b"null", "not null"),
        (b"true", "not a flag"),
        (b"\x00", "not valid JSON"),
        (b'{"a": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "nested too deep"),
    ],
)
def test_the_error_names_a_line_that_is_not_a_row(file, line, reason):
    path = file("a.jsonl", b'{"a": 1}\n\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(BadRowError, match=reason) as caught:
        rows_of(path)
    assert str(caught.value).startswith("a.jsonl, line 3: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "is NaN or infinite"),
        ("Infinity", "is NaN or infinite"),
        ("1e999", "is NaN or infinite"),
        (r'"\ud800"', "is text with half a surrogate pair"),
    ],
)
@pytest.mark.parametrize("content", ['{{"a": {}, "b": 1}}', '{{"a": {{"x": {}, "y": 1}}, "b": 1}}'])
def test_a_value_that_json_does_not_allow_only_matters_to_those_who_need_it(file, value, reason, content):
    source = open_source(file("a.jsonl", f'{{"a": 1}}\n{content.format(value)}\n'))
    with pytest.raises(BadRowError, match=rf"a.jsonl, line 2: column 'a(\.x)?' {reason}"):
        list(source.read(columns=["a"]))
    assert [found.row.get("b") for found in source.read(columns=["b"])] == [None, 1]
    assert [found.row.get("b") for found in source.read()] == [None, 1]
    assert list(source.read(columns=["a.y"]))[-1].row == ({"a.y": 1} if "y" in content else {})


def test_two_objects_on_one_line_are_refused_even_if_the_counts_match(file):
    """As many objects as lines, but not one on each: places would be wrong after a restart."""
    for content in (
        '{"a": 1}{"a": 2}\n\n',
        '{"a": 1}{"a":\n2}\n',
        '{"a": 1}{"b":\n{"a": 2}}\n',
        '{"a":\n1}\n{"a": 2}\n',
    ):
        with pytest.raises(BadRowError, match=r"line 1"):
            rows_of(file("a.jsonl", content))


def test_the_last_of_duplicate_keys_counts(file):
    assert rows_of(file("a.jsonl", '{"a": 1, "a": 2}\n')) == [{"a": 2}]


def test_only_the_needed_columns_are_kept(file):
    path = file("a.jsonl", '{"a": 1, "b": 2, "the c": 3}\n{"b": 4}\n \n')
    assert rows_of(path, columns=("a", "the c")) == [{"a": 1, "the c": 3}, {}]


def test_utf_16_is_recognized_by_its_mark(file):
    assert rows_of(file("a.jsonl", '{"a": "ö"}\n'.encode("utf-16"))) == [{"a": "ö"}]
    with pytest.raises(InputError, match=r"a\.jsonl is not valid utf-16"):
        rows_of(file("a.jsonl", '{"a": 1}\n'.encode("utf-16")[:-1]))


def test_an_endless_line_is_refused_before_it_fills_the_memory(file):
    path = file("a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * (MAX_LINE + 600_000))
    with pytest.raises(BadRowError, match=r"a\.jsonl, line 2: the line is longer than 16 MiB"):
        rows_of(path)


def test_a_long_line_is_read(file):
    assert rows_of(file("a.jsonl", json.dumps({"a": "x" * 3_000_000}))) == [{"a": "x" * 3_000_000}]


def test_the_error_names_a_damaged_gzip_file(file):
    import gzip

    whole = gzip.compress(b'{"a": 1}\n' * 50_000)
    for content in (
        whole[:-10],
        whole[: len(whole) // 2],
        b"no gzip",
        whole[:40] + b"\x00" * 40 + whole[80:],
    ):
        with pytest.raises(InputError, match=r"a\.jsonl\.gz is incomplete"):
            rows_of(file("a.jsonl.gz", content))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    rows=st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=20),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\n\n", " \n", "\n \t\n"]), min_size=20, max_size=20),
    ascii_only=st.booleans(),
)
def test_written_content_is_read_back(tmp_path_factory, rows, ends, ascii_only):
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    path.write_text("".join(line + end for line, end in zip(lines, ends, strict=False)), newline="")
    assert rows_of(str(path)) == rows
