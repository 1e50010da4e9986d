"""A report for people, as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.storage.run_files import REPORT, REPORT_HTML

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.output.groups import Chart
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } th, td { border: 1px solid #ccc; padding: 0.3em 0.7em; text-align: left; }
code { background: #f2f2f2; padding: 0 0.2em; overflow-wrap: anywhere; } svg text { font: 13px system-ui, sans-serif; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MARKED = re.compile(r"`([^`]*)`|\*\*([^*]*)\*\*")
_SPECIAL = re.compile(r"[\\`*|<\[&]")
_MAX_LENGTH = 200
_LABEL, _BAR, _LINE = 260, 300, 26
"""Pixels: the width of a label, the width of the longest bar, the height of a line."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a list. Text in backticks is quoted (see `quoted`), text between double asterisks is emphasized.

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
    :param charts: its charts. Only the HTML has them.
    :param sections: headings with lists
    """

    title: str
    summary: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    charts: Sequence[Chart] = ()
    sections: Sequence[tuple[str, Sequence[Item]]] = ()


def quoted(value: Json) -> str:
    """A value as quoted text, on one line and of bounded length.

    :param value: an output or a message; ``None`` for a row without an output
    """
    if value is None:
        return "(failed)"
    text = " ".join((value if isinstance(value, str) else msgspec.json.encode(value).decode()).split())
    text = text.replace("`", "'")
    return f"`{text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + '...'}`" if text else "(empty)"


def write_reports(folder: OutputFolder, report: Report) -> list[str]:
    """Write a report in both forms.

    :param folder: the output folder
    :param report: the report
    :return: the names of the files
    """
    folder.write(REPORT, as_markdown(report))
    folder.write(REPORT_HTML, as_html(report))
    return [REPORT, REPORT_HTML]


def as_markdown(report: Report) -> bytes:
    """Render a report as Markdown.

    :param report: the report
    """
    lines = [f"# {_plain(report.title)}", "", _plain(report.summary), ""]
    lines.append(f"| {' | '.join(map(_plain, report.heads))} |")
    lines.append(f"|{'---|' * len(report.heads)}")
    lines += [f"| {' | '.join(map(_plain, row))} |" for row in report.rows]
    lines.append("")
    for title, items in report.sections:
        lines += [f"## {title}", ""]
        for item in items:
            lines += [f"- {item.text}", *(f"  - {detail}" for detail in item.details)]
        lines.append("")
    return "\n".join(lines).encode(errors="replace")


def as_html(report: Report) -> bytes:
    """Render a report as HTML: without scripts, without anything from elsewhere, and with all text escaped.

    :param report: the report
    """
    return "\n".join(_html(report)).encode(errors="replace")


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
    for chart in report.charts:
        if chart.bars:
            yield f"<h2>{html.escape(chart.title)}</h2>"
            yield from _bars(chart.bars)
    for heading, items in report.sections:
        yield f"<h2>{html.escape(heading)}</h2><ul>"
        for item in items:
            details = "".join(f"<li>{_inline(detail)}</li>" for detail in item.details)
            yield f"<li>{_inline(item.text)}{f'<ul>{details}</ul>' if details else ''}</li>"
        yield "</ul>"
    yield "</body></html>\n"


def _bars(bars: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Horizontal bars; the longest is the largest number, or 1."""
    largest = max(1.0, *(number for _, number in bars))
    width, height = _LABEL + _BAR + 80, _LINE * len(bars)
    yield f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    for line, (label, number) in enumerate(bars):
        top, length = line * _LINE, _BAR * number / largest
        yield f'<text x="0" y="{top + 17}">{html.escape(label[:40])}</text>'
        yield f'<rect x="{_LABEL}" y="{top + 4}" width="{length:.1f}" height="18" fill="#4a7"/>'
        yield f'<text x="{_LABEL + length + 6:.1f}" y="{top + 17}">{_number(number)}</text>'
    yield "</svg>"


def _number(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.4g}"


def _plain(text: str) -> str:
    """Text on one line in which no character means anything to Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _inline(text: str) -> str:
    def marked(found: re.Match[str]) -> str:
        code, strong = found.groups()
        return f"<code>{code}</code>" if code is not None else f"<strong>{strong}</strong>"

    return _MARKED.sub(marked, html.escape(text))
