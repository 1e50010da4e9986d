from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.rows.batch import MAX_LINE
from airflow_provider_lamini.rows.errors import BadRowError, ColumnError, InputError, MissingColumnError
from airflow_provider_lamini.rows.sources.csv_dialect import NULL
from airflow_provider_lamini.rows.sources.options import CsvOptions, InputOptions
from airflow_provider_lamini.rows.sources.source import open_source


def rows_of(path: str, **options) -> list[dict]:
    return [each.row for each in open_source(path).read(**options)]


def test_values_stay_text(file):
    path = file("a.csv", "id,text,empty\n007,1.50,\nnull,true,\n")
    assert rows_of(path) == [
        {"id": "007", "text": "1.50", "empty": ""},
        {"id": "null", "text": "true", "empty": ""},
    ]


def test_quotes_delimiters_and_line_ends_inside_values_are_read(file):
    path = file("a.csv", 'id,text\r\n1,"a ""b"", c\r\nd\ne"\r\n2,plain\r\n')
    rows = list(open_source(path).read())
    assert [each.row["text"] for each in rows] == ['a "b", c\r\nd\ne', "plain"]
    assert [each.location for each in rows] == ["a.csv, line 4", "a.csv, line 5"]


def test_tabs_separate_values_in_tsv(file):
    assert rows_of(file("a.tsv", "id\ttext\n1\ta, b\n")) == [{"id": "1", "text": "a, b"}]


def test_a_byte_order_mark_blank_lines_and_a_missing_line_end_are_accepted(file):
    path = file("a.csv", "\ufeff\nid,text\n\n1,a\n\r\n2,b")
    rows = list(open_source(path).read())
    assert [each.row for each in rows] == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert [each.location for each in rows] == ["a.csv, line 4", "a.csv, line 6"]


def test_spaces_around_names_in_the_header_are_ignored(file):
    assert rows_of(file("a.csv", "id, the text\n1, x\n")) == [{"id": "1", "the text": " x"}]


def test_unicode_line_separators_stay_in_their_values(file):
    assert rows_of(file("a.csv", "id,text\n1,a\u2028b\x0bc\x1cd\x85e\n")) == [
        {"id": "1", "text": "a\u2028b\x0bc\x1cd\x85e"}
    ]


def test_only_the_needed_columns_are_kept(file):
    path = file("a.csv", 'a,b,c\n1,2,3\n4,"5",6\n')
    assert rows_of(path, columns=("c", "a")) == [{"a": "1", "c": "3"}, {"a": "4", "c": "6"}]
    assert rows_of(path, columns=("b",)) == [{"b": "2"}, {"b": "5"}]
    assert rows_of(path, columns=()) == [{}, {}]


def test_a_header_alone_has_no_rows(file):
    assert rows_of(file("a.csv", "a,b\n")) == []


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_a_header_is_refused(file, content):
    with pytest.raises(InputError, match=r"a\.csv is empty: a header line"):
        rows_of(file("a.csv", content))


@pytest.mark.parametrize(
    ("header", "rows"), [("a,,c", {"a": "1", "c": "3"}), ("a,b,a", {"b": "2"}), (",a,", {"a": "2"})]
)
def test_unnamed_and_repeated_columns_are_left_out(file, header, rows):
    path = file("a.csv", f"{header}\n1,2,3\n")
    assert rows_of(path) == [rows]
    for column in rows:
        assert rows_of(path, columns=(column,)) == [{column: rows[column]}]


def test_a_repeated_column_that_is_needed_is_refused(file):
    with pytest.raises(ColumnError, match="names column 'a' more than once"):
        rows_of(file("a.csv", "a,b,a\n1,2,3\n"), columns=("a",))


def test_a_header_without_names_is_refused(file):
    with pytest.raises(ColumnError, match=r"no column of the header has a name.*csv_options\['header'\]"):
        rows_of(file("a.csv", ",,\n1,2,3\n"))


def test_the_error_names_a_missing_column_and_the_existing_ones(file):
    with pytest.raises(MissingColumnError, match=r"a\.csv has no column 'c'. Existing columns: a, b\."):
        list(open_source(file("a.csv", "a,b\n1,2\n")).batches(columns=("a", "c"), required=("c",)))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"1,2,3", r"line 4: 3 values, but the header names 2 columns"),
        (b'1,"2"x', r"line 4: not valid CSV"),
        (b'1,"secret\n\n', r"line 4: a quotation mark is opened here and never closed"),
        (b"1,\xff", r"line 4: the line is not valid UTF-8"),
        (b"1,2\r3,4", r"line 4: a carriage return"),
        (b'1,"' + (b"x" * 999 + b"\n") * (MAX_LINE // 1000 + 10), r"line 4: a quotation mark is opened here"),
        (
            b'1,"' + (b"x" * 999 + b"\n") * (MAX_LINE // 1000 + 10) + b'"',
            r"line 4: a value is longer than 16 MiB",
        ),
        (
            b'1,"' + (b"x" * 999 + b"\n") * (MAX_LINE // 500 + 10) + b'"',
            r"line 4: a value is longer than 16 MiB",
        ),
        (b'1,"' + b"x" * (MAX_LINE + 600_000), r"line 4: the line is longer than 16 MiB"),
    ],
)
def test_the_error_names_a_line_that_is_not_a_row(file, record, reason):
    path = file("a.csv", b'a,b\n1,"2\n3"\n' + record + b"\n5,6\n")
    with pytest.raises(BadRowError, match=rf"^a\.csv, {reason}") as caught:
        rows_of(path)
    assert "secret" not in str(caught.value)


def test_a_long_value_is_read(file):
    """The CSV module's own limit is 128 KiB."""
    assert rows_of(file("a.csv", "a,b\n1," + "x" * 1_000_000)) == [{"a": "1", "b": "x" * 1_000_000}]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.text(
    '",\n\r\tab \u2028', max_size=8
)


@given(
    rows=st.lists(st.tuples(texts, texts, texts), max_size=15),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    cut_end=st.booleans(),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_written_rows_are_read_from_any_position(tmp_path_factory, *, rows, quoting, end, cut_end, suffix):
    """Offsets are counted in bytes and records span lines: every place must be one between two records."""
    import gzip

    if "\r" in "".join(map("".join, rows)):
        quoting = (
            csv.QUOTE_ALL
        )  # QUOTE_MINIMAL leaves a carriage return bare, where it cannot be told from a line end
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, quoting=quoting, lineterminator=end, delimiter="\t" if suffix == ".tsv" else ","
    )
    writer.writerow(["a", "b b", 'c"'])
    writer.writerows(rows)
    content = text.getvalue().removesuffix(end if cut_end else "").encode()
    path = tmp_path_factory.mktemp("rows") / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)

    source = open_source(str(path))
    straight = list(source.read())
    while rows and not any(rows[-1]):
        rows.pop()
    assert [tuple(each.row.values()) for each in straight] == rows
    for cut, each in enumerate(straight):
        rest = [(one.index, one.row, one.location) for one in source.read(each.after)]
        assert rest == [(one.index, one.row, one.location) for one in straight[cut + 1 :]]


def test_a_null_of_a_database_is_missing_also_where_backslashes_escape(file):
    path = file("a.tsv", "a\tb\n\\N\tx\\\ty\n1\t\\N\n")
    rows = open_source(path, options=InputOptions.parse(csv_options={"escape": "\\"})).read()
    assert [each.row for each in rows] == [{"a": None, "b": "x\ty"}, {"a": "1", "b": None}]


@pytest.mark.parametrize("bad", ["1", "1;2;3;4;5"])
def test_a_delimiter_is_recognized_although_some_rows_are_bad(file, bad):
    path = file("a.csv", f'"id";"text"\n1;"a, b"\n{bad}\n2;b\n3;c\n')
    source = open_source(path, keep_bad=True)
    assert [found.row.get("text") for found in source.read()] == ["a, b", None, "b", "c"]
    assert "delimiter semicolon" in source.notes()


def test_a_delimiter_that_most_rows_do_not_have_is_part_of_the_header(file):
    assert rows_of(file("a.csv", "text; more\na\nb\nc;d\n")) == [
        {"text; more": text} for text in ("a", "b", "c;d")
    ]


@pytest.mark.parametrize(
    "again", ["id,text\n", "id,text\r\n", "\ufeffid,text\n", '"id","text"\n', '\ufeff"id","text"\n']
)
@pytest.mark.parametrize("quoted", [False, True])
def test_the_header_of_a_file_that_was_appended_is_no_row(file, again, quoted):
    last = '"b"' if quoted else "b"
    source = open_source(file("a.csv", f"id,text\n1,a\n{again}2,{last}\ntext,id\n"))
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}, {"id": "text", "text": "id"}]
    found = list(source.read())
    assert [each.row for each in found] == rows
    assert [each.row for each in source.read(found[0].after)] == rows[1:]
    assert "skipped header lines among the rows" in source.notes()


def test_a_first_line_with_the_names_that_the_user_gives_is_no_row(file):
    path = file("a.csv", "id,text\n1,a\n2,b\n")
    source = open_source(path, options=InputOptions(csv=CsvOptions(header=("id", "text"))))
    found = list(source.read())
    assert [each.row["text"] for each in found] == ["a", "b"]
    assert [each.row["text"] for each in source.read(found[0].after)] == ["b"]
    assert "skipped the header line" in source.notes()


def test_a_single_word_that_is_also_the_name_that_the_user_gives_is_a_row(file):
    source = open_source(file("a.csv", "text\na\n"), options=InputOptions(csv=CsvOptions(header=("text",))))
    assert [each.row["text"] for each in source.read()] == ["text", "a"]


def test_a_row_of_a_single_column_may_be_its_name(file):
    assert rows_of(file("a.csv", "word\na\nword\n")) == [{"word": "a"}, {"word": "word"}]


@pytest.mark.parametrize("values", ["2,b", "b,2026-01-02", "+3.5,c", " 4 ,c"])
@pytest.mark.parametrize("keep_bad", [False, True])
def test_a_later_part_of_a_table_without_a_header_loses_no_row(file, tmp_path, values, keep_bad):
    file("1.csv", "id,text\n1,a\n")
    file("2.csv", f"{values}\n5,d\n")
    pattern = str(tmp_path / "*.csv")
    for columns in (None, ("id",), ("text",)):
        source = open_source(pattern, keep_bad=keep_bad)
        with pytest.raises(InputError, match=r"2\.csv has no header line.*csv_options=\{'header'"):
            list(source.read(columns=columns))
    source = open_source(pattern, options=InputOptions(csv=CsvOptions(header=("id", "text"))))
    first, second = values.split(",")
    assert [tuple(each.row.values()) for each in source.read()] == [("1", "a"), (first, second), ("5", "d")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("id,text", "code,body"),  # words may be names
        ("id,text", "text,2"),
        ("id,text", "2026,text"),
        ("id,text", "2,b,3"),
        ("2024,2025", "2025,2026"),
        ("2024,text", "2025,body"),
    ],
)
def test_a_header_of_other_names_is_one(file, tmp_path, first, second):
    file("1.csv", f"{first}\n1,a\n")
    file("2.csv", f"{second}\n1,a,b\n"[: None if second.count(",") > 1 else -3] + "\n")
    found = [list(each.row) for each in open_source(str(tmp_path / "*.csv")).read()]
    assert found == [first.split(","), second.split(",")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("value", ["2", '"2"'], ids=["plain", "quoted"])
@pytest.mark.parametrize("header", [None, ("a", "b", "c")])
def test_lines_without_any_value_at_the_end_as_spreadsheets_write_them_are_not_rows(file, end, value, header):
    lines = ["a,b,c", f"1,{value},3", ",,", "4,,", ",,", ",,"]
    path = file("a.csv", "".join(line + end for line in lines))
    source = open_source(path, options=InputOptions(csv=CsvOptions(header=header)))
    assert [dict(each.row) for each in source.read()] == [
        {"a": "1", "b": "2", "c": "3"},
        {"a": "", "b": "", "c": ""},
        {"a": "4", "b": "", "c": ""},
    ]
    assert "skipped lines without any value at the end" in source.remarks()


def test_lines_without_any_value_keep_their_places_before_other_rows(file):
    """Also if there are more of them than a batch has rows, and if a bad row follows."""
    path = file("a.csv", "a,b\n1,x\n" + ",\n" * 3000 + "2,x,y\n3,x\n" + ",\n" * 3000)
    source = open_source(path, keep_bad=True)
    found = [batch for batch in source.batches(columns=("a",)) if len(batch)]
    values = [row.get("a") for batch in found for row in batch.rows]
    assert values[:3002] == ["1", *[""] * 3000, None]
    assert values[3002] == "3"
    bad = [batch.start.row + offset for batch in found for offset in batch.bad]
    assert bad == [3001]
    later = source.batches(found[0].after(1), columns=("a",))
    assert [row.get("a") for batch in later for row in batch.rows] == values[1:]


def test_no_text_stands_for_a_missing_value_by_itself(file):
    assert rows_of(file("a.csv", f'a,b\n"{NULL}",{NULL}\n')) == [{"a": NULL, "b": NULL}]
