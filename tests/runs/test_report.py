"""Reports for people: the same content as Markdown and as HTML, whatever a model has answered."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from airflow_provider_lamini.runs.report import Item, Report, as_html, as_markdown

EVIL = "<script src='https://evil.test/x.js'>alert(1)</script> & \"quoted\" </code>"
REPORT = Report(
    title="Evaluation of m|1: good enough",
    summary=f"2 rows of {EVIL}.",
    heads=["metric", "a|b"],
    rows=[["exact_match", "0.5000"], [EVIL, ""]],
    bars=[("exact_match, model", 0.5), (EVIL, 3.0)],
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
    assert [float(bar.get("width")) for bar in bars] == [50.0, 300.0]
    assert {text.text for text in tree().findall(".//svg/text")} >= {"exact_match, model", "0.5", "3"}


def test_the_markdown_has_the_same_without_the_chart():
    text = as_markdown(REPORT).decode()
    assert text.startswith("# Evaluation of m|1: good enough\n\n2 rows of ")
    assert "| metric | a\\|b |\n|---|---|\n| exact_match | 0.5000 |" in text
    assert "## Rows\n\n- Row 1, right answer: `" in text
    assert "\n  - model: **missed**\n" in text
