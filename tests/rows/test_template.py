from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.rows.errors import ColumnError, MissingColumnError
from airflow_provider_lamini.rows.prompts.template import PromptTemplate, TextTemplate


@pytest.mark.parametrize(
    ("template", "columns", "prompt"),
    [
        ("Summarize: {body}", ("body",), "Summarize: B"),
        ("{body}", ("body",), "B"),
        ("{body}{subject}{body}", ("body", "subject"), "BSB"),
        ("{the subject} of {a-b.c}", ("the subject", "a-b.c"), "T of D"),
        ("100% of {body} %s %(x)s %%", ("body",), "100% of B %s %(x)s %%"),
        (r"\{body\} is {body}", ("body",), "{body} is B"),
        ('{"label": 1} {} { body } {body', None, None),
        ('Give {"label": "{subject}", "n": {"x": []}} {} { body } {1} {a: b} {', ("subject",), None),
        ("{größe}", ("größe",), "G"),
    ],
)
def test_columns_in_braces_are_replaced_and_other_text_stays(template, columns, prompt):
    row = {"body": "B", "subject": "S", "the subject": "T", "a-b.c": "D", "größe": "G"}
    parsed = PromptTemplate.parse(template)
    if columns is None:
        assert parsed.bare
        return
    assert parsed.columns == columns
    assert parsed.render(row) == (prompt or template.replace("{subject}", "S"))
    assert parsed.render_all([row, row]) == [parsed.render(row)] * 2


def test_a_text_without_braces_is_the_name_of_a_column():
    parsed = PromptTemplate.parse("the whole prompt")
    assert parsed.columns == ("the whole prompt",)
    assert parsed.render({"the whole prompt": "100% {x}"}) == "100% {x}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n{b} %s", "a\n{b} %s"),
        ("", ""),
        (1, "1"),
        (10**20, "1" + "0" * 20),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        ([1, "ä", None], '[1,"ä",null]'),
        ({"a": {"b": 1}}, '{"a":{"b":1}}'),
    ],
)
def test_values_are_inserted_as_json_and_texts_as_they_are(value, text):
    parsed = PromptTemplate.parse("<{a}>")
    assert parsed.render({"a": value}) == f"<{text}>"
    assert parsed.render_all([{"a": value}, {"a": "x"}]) == [f"<{text}>", "<x>"]


@pytest.mark.parametrize("wrong", [None, "", " \n", 5, ["{a}"]])
def test_a_value_that_is_not_a_template_is_refused(wrong):
    with pytest.raises(ColumnError, match="prompt must be a text"):
        PromptTemplate.parse(wrong)


def test_the_error_names_a_missing_column_and_the_existing_ones():
    parsed = PromptTemplate.parse("{subjekt}")
    for render in (parsed.render, lambda row: parsed.render_all([row])):
        with pytest.raises(
            MissingColumnError, match=r"no column 'subjekt'. Existing columns: subject, body\."
        ):
            render({"subject": "S", "body": "B"})
        with pytest.raises(MissingColumnError, match="no value in the column 'subjekt'"):
            render({"subjekt": None})


def test_the_error_does_not_repeat_a_prompt_that_is_taken_for_a_column():
    parsed = PromptTemplate.parse("Tell me the secret")
    with pytest.raises(
        MissingColumnError, match=r"names no column in braces.*Existing columns: body\."
    ) as caught:
        parsed.render({"body": "x"})
    assert "secret" not in str(caught.value)


def test_no_rows_make_no_prompts():
    assert PromptTemplate.parse("{a} {b}").render_all([]) == []
    assert PromptTemplate.parse("a").render_all([]) == []


def test_the_error_survives_a_process_boundary():
    error = MissingColumnError.of("a.csv", "c", ["a", "b"])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.column, again.columns) == (str(error), "c", ("a", "b"))


@given(
    pieces=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}\\")), min_size=1, max_size=4
    ),
    rows=st.lists(
        st.fixed_dictionaries({"a": st.text(), "b_2": st.integers() | st.text() | st.booleans()}), max_size=4
    ),
)
def test_rendering_is_plain_replacement(pieces, rows):
    template = "{a}" + "{b_2}".join(pieces)
    parsed = PromptTemplate.parse(template)

    def plain(row: dict) -> str:
        text = row["b_2"] if isinstance(row["b_2"], str) else json.dumps(row["b_2"])
        return row["a"] + text.join(pieces)

    assert parsed.render_all(rows) == [parsed.render(row) for row in rows] == [plain(row) for row in rows]


COLUMNS = [
    "body", "score", "Price (USD)", "What is your name?", "2024", "Größe/cm", "Timestamp", "tags", 'a"b', "x: y", "Rate %",
    "first_name", "e-mail", "№", "10% off", "[0]", "prix, ttc", " padded",
]  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_a_brace_with_exactly_the_name_of_a_column_is_that_column(column):
    parsed = PromptTemplate.parse(f"<{{{column}}} {{body}}>").for_columns(COLUMNS)
    assert parsed.columns == tuple(dict.fromkeys((column, "body")))
    row = dict.fromkeys(COLUMNS, "v")
    assert parsed.render(row) == "<v v>"
    assert parsed.render_all([row]) == ["<v v>"]


@pytest.mark.parametrize(
    ("brace", "column"),
    [
        ("price (usd)", "Price (USD)"),
        ("Price(USD)", "Price (USD)"),
        (" Timestamp ", "Timestamp"),
        ("TIMESTAMP\u00a0", "Timestamp"),
        ("score:.2f", "score"),
        ("score:>10", "score"),
        ("score!r", "score"),
        ("tags[0]", "tags"),
        ("Tags[0][1]", "tags"),
        ("what is your name ?", "What is your name?"),
        ("Price (USD):,.2f", "Price (USD)"),
        ("padded ", " padded"),
        ("10%off", "10% off"),
    ],
)
def test_a_brace_that_nearly_names_a_column_is_refused_with_the_column(brace, column):
    with pytest.raises(ColumnError, match="Did you mean") as caught:
        PromptTemplate.parse(f"{{body}} {{{brace}}}").for_columns(COLUMNS)
    assert f"{{{column}}}" in str(caught.value)


@pytest.mark.parametrize(
    "brace",
    [
        "number:.2f",
        "items[0]",
        " Date ",
        "name!r",
        "x['a']",
        "d:%Y-%m-%d",
        "Price (EUR)",
        "Where do you live?",
        "a.b[0].c",
        "unknown:d",
        "count:05d",
        "0:.2f",
        "0:>10",
        "1:,",
    ],
)
def test_what_looks_like_a_placeholder_and_is_no_column_is_refused_unless_escaped(brace):
    with pytest.raises(ColumnError, match=r"looks like a placeholder.*Existing columns: body"):
        PromptTemplate.parse(f"{{body}} {{{brace}}}").for_columns(COLUMNS)
    escaped = PromptTemplate.parse(f"{{body}} \\{{{brace}\\}}").for_columns(COLUMNS)
    assert escaped.render({"body": "B"}) == f"B {{{brace}}}"


@pytest.mark.parametrize(
    "text",
    [
        '{"label": 1}', '{"score": "{"}', "{}", "{1}", "{a: b}", "{a, b}", "{f(x)}", "{i+1}", r"\d{3}", r"\frac{1}{2}",
        "{a:1}", "{\n  body\n}", "{'body': 1}", "{score: number}", "{x => x}", "{;}", "{{}}", "${2}", "{body: string, tags: []}",
        "{a:d}", "{1:2.5}", "{0:d}", "{t:2s}", "{key:value}", "{1:a,2:b}", "x^{0}",
    ],
)  # fmt: skip
def test_json_and_code_stay_text(text):
    parsed = PromptTemplate.parse("{body} " + text).for_columns(COLUMNS)
    assert parsed.render({"body": "B"}) == f"B {text}"


@pytest.mark.parametrize(
    ("text", "rendered", "constant"),
    [
        ("Price is {Price (USD)}.", "Price is 7.", False),
        ("Year {2024}", "Year 7", False),
        ("{body}, 100% {e-mail}", "7, 100% 7", False),
        ('Answer as {"label": 1}.', 'Answer as {"label": 1}.', False),
        (r"Answer as \{\}.", "Answer as {}.", True),
        ("Be kind.", "Be kind.", True),
        ("body", "body", True),
        (r"\{body\} is no column", "{body} is no column", True),
    ],
)
def test_a_system_prompt_is_a_template_whose_columns_decide_what_is_constant(text, rendered, constant):
    parsed = TextTemplate.parse(text)
    assert parsed.constant is constant
    row = dict.fromkeys(COLUMNS, "7")
    assert parsed.for_columns(COLUMNS).render(row) == rendered
    assert not constant or parsed.render({}) == rendered


def test_the_name_of_a_column_may_be_the_whole_prompt_whatever_it_contains():
    parsed = PromptTemplate.parse("a {b} c").for_columns(["a {b} c", "b"])
    assert parsed.render({"a {b} c": "whole", "b": "no"}) == "whole"


def test_a_wrong_name_suggests_a_similar_column():
    for text in ("{Body}", "Body", "bo dy"):
        error = PromptTemplate.parse(text).missing(
            "a.csv", PromptTemplate.parse(text).columns[0], ["body", "id"]
        )
        assert "Did you mean 'body'?" in str(error)


def test_a_missing_prompt_file_is_not_mistaken_for_a_prompt():
    error = PromptTemplate.parse("prompts/summary.txt").missing("a.csv", "prompts/summary.txt", ["body"])
    assert "nor of a file in the Dag's folder" in str(error)
