"""A report for people, as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARKDOWN = "report.md"
HTML = "report.html"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } th, td { border: 1px solid #ccc; padding: 0.3em 0.7em; text-align: left; }
code { background: #f2f2f2; padding: 0 0.2em; overflow-wrap: anywhere; } svg text { font: 13px system-ui, sans-serif; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CODE, _STRONG = re.compile(r"`([^`]*)`"), re.compile(r"\*\*([^*]*)\*\*")
_LABEL, _BAR, _LINE = 260, 300, 26
"""Pixels: the width of a label, the width of the longest bar, the height of a line."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a list. Text in backticks is quoted, text between double asterisks is emphasized.

    :param text: the line
    :param details: lines below it
    """

    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report says.

    :param title: its heading
    :param summary: a sentence below it
    :param heads: the heads of its table
    :param rows: the rows of its table
    :param bars: the bars of its chart: labels with numbers that are not negative. Only the HTML has it.
    :param sections: headings with lists
    """

    title: str
    summary: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[tuple[str, float]] = ()
    sections: Sequence[tuple[str, Sequence[Item]]] = ()


def as_markdown(report: Report) -> bytes:
    """Render a report as Markdown.

    :param report: the report
    """
    lines = [f"# {report.title}", "", report.summary, "", f"| {' | '.join(map(_cell, report.heads))} |"]
    lines.append(f"|{'---|' * len(report.heads)}")
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in report.rows]
    lines.append("")
    for title, items in report.sections:
        lines += [f"## {title}", ""]
        for item in items:
            lines += [f"- {item.text}", *(f"  - {detail}" for detail in item.details)]
        lines.append("")
    return "\n".join(lines).encode()


def as_html(report: Report) -> bytes:
    """Render a report as HTML: without scripts, without anything from elsewhere, and with all text escaped.

    :param report: the report
    """
    return "\n".join(_html(report)).encode()


def _html(report: Report) -> Iterator[str]:
    title = html.escape(report.title)
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1><p>{html.escape(report.summary)}</p>"
    yield "<table>"
    yield f"<tr>{''.join(f'<th>{html.escape(head)}</th>' for head in report.heads)}</tr>"
    for row in report.rows:
        yield f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
    yield "</table>"
    if report.bars:
        yield from _chart(report.bars)
    for heading, items in report.sections:
        yield f"<h2>{html.escape(heading)}</h2><ul>"
        for item in items:
            details = "".join(f"<li>{_inline(detail)}</li>" for detail in item.details)
            yield f"<li>{_inline(item.text)}{f'<ul>{details}</ul>' if details else ''}</li>"
        yield "</ul>"
    yield "</body></html>\n"


def _chart(bars: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Horizontal bars; the longest is the largest number, or 1."""
    largest = max(1.0, *(number for _, number in bars))
    width, height = _LABEL + _BAR + 80, _LINE * len(bars)
    yield f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    for line, (label, number) in enumerate(bars):
        top, length = line * _LINE, _BAR * number / largest
        yield f'<text x="0" y="{top + 17}">{html.escape(label[:40])}</text>'
        yield f'<rect x="{_LABEL}" y="{top + 4}" width="{length:.1f}" height="18" fill="#4a7"/>'
        yield f'<text x="{_LABEL + length + 6:.1f}" y="{top + 17}">{number:.4g}</text>'
    yield "</svg>"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _inline(text: str) -> str:
    return _STRONG.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\1</code>", html.escape(text)))
