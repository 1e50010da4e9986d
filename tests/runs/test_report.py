"""Reports for people: the same content as Markdown and as HTML, whatever a model has answered."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.runs.report import Item, Report, as_html, as_markdown, quoted

EVIL = "<script src='https://evil.test/x.js'>alert(1)</script> & \"quoted\" </code>"
REPORT = Report(
    title="Evaluation of m|1: good enough",
    summary=f"2 rows of {EVIL}.",
    heads=["metric", "a|b"],
    rows=[["exact_match", "0.5000"], [EVIL, ""]],
    charts=[Chart("Scores", [("exact_match, model", 0.5), (EVIL, 3.0)]), Chart("Rows", [("ok", 1_234_567)])],
    sections=[("Rows", [Item(f"Row 1, right answer: `{EVIL}`", ("model: **missed**",))])],
)


def tree():
    """The page as XML, which it also is apart from its first line and the tag without an end."""
    text = as_html(REPORT).decode()
    return ET.fromstring(re.sub(r"<meta ([^>]*)>", r"<meta \1/>", text.removeprefix("<!DOCTYPE html>")))


def test_the_html_is_well_formed_and_runs_and_loads_nothing():
    page = tree()
    tags = {element.tag for element in page.iter()}
    assert not tags & {"script", "img", "link", "iframe", "a", "object"}
    attributes = {name for element in page.iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in as_html(REPORT).decode()


def test_all_text_is_shown_as_it_is():
    page = tree()
    assert page.find(".//h1").text == REPORT.title
    assert EVIL in page.find(".//p").text
    assert [cell.text for cell in page.findall(".//td")][2] == EVIL
    assert page.find(".//code").text == EVIL
    assert page.find(".//strong").text == "missed"


def test_the_chart_has_a_bar_for_each_number():
    bars = tree().findall(".//rect")
    assert [float(bar.get("width")) for bar in bars] == [50.0, 300.0, 300.0]
    assert {text.text for text in tree().findall(".//svg/text")} >= {
        "exact_match, model",
        "0.5",
        "3",
        "1,234,567",
    }


def test_the_markdown_has_the_same_without_the_chart():
    text = as_markdown(REPORT).decode()
    assert text.startswith("# Evaluation of m\\|1: good enough\n\n2 rows of ")
    assert "| metric | a\\|b |\n|---|---|\n| exact_match | 0.5000 |" in text
    assert "## Rows\n\n- Row 1, right answer: `" in text
    assert "\n  - model: **missed**\n" in text


def test_the_markdown_gives_no_text_a_meaning_of_its_own():
    evil = "a | b\n# title <img src=x> [link](https://evil.test) **bold** `code`"
    report = Report(title=evil, summary=evil, heads=["", "value"], rows=[["model", evil]])
    lines = as_markdown(report).decode().splitlines()
    shown = r"a \| b # title \<img src=x> \[link](https://evil.test) \*\*bold\*\* \`code\`"
    assert lines == [f"# {shown}", "", shown, "", "|  | value |", "|---|---|", f"| model | {shown} |"]


def test_quoted_text_is_on_one_line_without_backticks_and_has_a_bounded_length():
    assert quoted("a `b`\n c") == "`a 'b' c`"
    assert quoted({"class": "x"}) == '`{"class":"x"}`'
    assert quoted("x" * 1000) == f"`{'x' * 200}...`"
    assert (quoted(None), quoted(" ")) == ("(failed)", "(empty)")


def test_what_is_quoted_is_not_emphasized():
    item = Item(f"output: {quoted('2 ** 3 ** 4')}, **checked**")
    report = Report(title="t", summary="s", heads=[], rows=[], sections=[("Rows", [item])])
    assert b"<li>output: <code>2 ** 3 ** 4</code>, <strong>checked</strong></li>" in as_html(report)


def test_text_that_cannot_be_encoded_does_not_break_a_report():
    report = Report(title="model \ud800", summary="", heads=[], rows=[])
    assert b"model ?" in as_html(report)
    assert b"model ?" in as_markdown(report)
