"""The report of a run over rows. It is made of the manifest, the ledger and the first lines of a few files."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_lamini.rows.answers.prices import COST, UNPRICED, describe_cost
from airflow_provider_lamini.rows.counts import by_number
from airflow_provider_lamini.rows.ledger.document import ReportData
from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.runs.report import Item, Report, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.rows.ledger.document import Header
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.open_run import OpenRun

MAX_FAILED = 20
"""Maximum number of failed rows in a report."""
MAX_OUTPUTS = 5
"""Maximum number of outputs in a report."""
_MAX_LINES = 100
"""Lines of a part that are read to find rows with an output."""


class _Answer(msgspec.Struct):
    """The fields of a part that the report shows."""

    index: int
    output: Any = None


class _Failure(msgspec.Struct):
    """The fields of an errors file that the report shows."""

    index: int
    error_reason: str
    error: str


_Line = TypeVar("_Line", _Answer, _Failure)


def report_of_run(run: OpenRun, manifest: Manifest, platform: str) -> Report:
    """The report. It contains no prompt, and no passthrough column.

    :param run: the run, finished
    :param manifest: what its manifest is going to say
    :param platform: the platform's name
    """
    document = run.ledger.document
    data = document.report if document.report is not msgspec.UNSET else ReportData()
    counts, header = manifest.counts, document.header
    return Report(
        title=f"{header.owner.get('task', 'Run')}: {counts.ok:,} of {counts.rows:,} rows have an output",
        summary=f"Model {manifest.model} on {platform}; input {manifest.input}.",
        heads=["", "value"],
        rows=[*_identity(header), *_figures(manifest, header, data)],
        charts=[
            Chart("Rows by outcome", [("with an output", counts.ok), *by_number(counts.failures)]),
            Chart("Rows with an output by finish reason", by_number(counts.finish_reasons)),
            run.writer.chart(data.groups),
        ],
        sections=[
            *_failed_rows(run.folder, manifest),
            *(_outputs(run.folder, manifest) if "output" in run.writer.columns else ()),
            *_jobs(data),
        ],
    )


def _identity(header: Header) -> Iterator[list[str]]:
    for name, value in header.owner.items():
        if name != "map_index" or value != -1:
            yield ["Dag" if name == "dag" else name.replace("_", " "), str(value)]
    yield ["begun", f"{datetime.fromtimestamp(header.created_at, UTC):%Y-%m-%d %H:%M:%S} UTC"]


def _figures(manifest: Manifest, header: Header, data: ReportData) -> Iterator[list[str]]:
    counts = manifest.counts
    yield ["duration", str(timedelta(seconds=round(manifest.seconds)))]
    yield ["output", manifest.output]
    if isinstance(manifest.only_failed_of, str):
        yield ["only the failed rows of", manifest.only_failed_of]
    numbers = {
        "rows": counts.rows,
        "characters of prompts": header.characters,
        "rows with an output": counts.ok,
        "failed rows": counts.failed,
        "rows sent more than once": counts.retried,
        "rows copied from an earlier run": counts.reused,
        "chunks": len(manifest.parts),
        "jobs": data.jobs,
    }
    sums = {name: number for name, number in counts.sums.items() if name not in (COST, UNPRICED)}
    for name, number in (numbers | sums).items():
        yield [name.replace("_", " "), f"{number:,.0f}"]
    if cost := describe_cost(counts.sums):
        yield [COST, cost]


def _failed_rows(folder: OutputFolder, manifest: Manifest) -> Iterator[tuple[str, list[Item]]]:
    """The first failed rows, with their reasons."""
    items: list[Item] = []
    for name in manifest.errors:
        failed = _first_lines(folder, name, _Failure, MAX_FAILED - len(items))
        items += [Item(f"Row {row.index}, {quoted(row.error_reason)}: {quoted(row.error)}") for row in failed]
        if len(items) >= MAX_FAILED:
            break
    if items:
        more = manifest.counts.failed - len(items)
        rest = [Item(f"{more:,} more are in the files `errors-*.jsonl`.")] if more > 0 else []
        yield "Failed rows", [*items, *rest]


def _outputs(folder: OutputFolder, manifest: Manifest) -> Iterator[tuple[str, list[Item]]]:
    """A few outputs: the first ones of some parts, which are evenly spread."""
    count = min(MAX_OUTPUTS, len(manifest.parts))
    items: list[Item] = []
    for number in range(count):
        part = manifest.parts[len(manifest.parts) * number // count]
        lines = _first_lines(folder, part.name, _Answer, _MAX_LINES)
        answered = (row for row in lines if row.output is not None)
        items += [
            Item(f"Row {row.index}: {quoted(row.output)}") for row in islice(answered, MAX_OUTPUTS // count)
        ]
    if items:
        yield "Some outputs", items


def _jobs(data: ReportData) -> Iterator[tuple[str, list[Item]]]:
    if data.job_ids:
        more = data.jobs - len(data.job_ids)
        rest = [Item(f"and {more:,} more")] if more > 0 else []
        yield "Jobs", [*(Item(quoted(job_id)) for job_id in data.job_ids), *rest]


def _first_lines(folder: OutputFolder, name: str, kind: type[_Line], number: int) -> Iterator[_Line]:
    """The first lines of a file; fewer if one is damaged: reading the results raises the error."""
    with closing(folder.lines(name)) as lines, suppress(msgspec.MsgspecError, UnicodeDecodeError):
        for line in islice(lines, number):
            yield msgspec.json.decode(line, type=kind)
