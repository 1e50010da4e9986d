"""What the page of a task shows: its record, its result, and what it has written, all of it cut to a bounded size.

The only path that is read is the one that the task instance has recorded itself, and its rows are shown only if the ledger
there says that they belong to this task instance.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.platforms import is_platform, platform
from airflow_provider_lamini.plugins import files
from airflow_provider_lamini.plugins.bounded import PageError
from airflow_provider_lamini.plugins.jobs import MAX_TEXT, may_read_connection, read_states
from airflow_provider_lamini.plugins.stored_task import LINKS, RESULT, TaskKey, load_task
from airflow_provider_lamini.rows.answers.prices import COST, UNPRICED, describe_cost
from airflow_provider_lamini.rows.errors import RowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.ledger.document import LedgerDocument
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.task_record import TaskRecord

MAX_ROWS = 100
MAX_COLUMNS = 20
MAX_OUTPUT = 2000
"""Maximum characters of an output."""
MAX_FIELDS = 60


@dataclass(slots=True)
class RunDetails:
    """The rows and numbers of a run.

    :param counts: the rows by outcome
    :param rows: results
    :param failed: failed rows
    :param facts: more about the run
    :param note: why something is not shown
    :param unfinished: whether it has not ended, so that its rows are counted only so far
    :param files: the files that can be shown (`files.FILES`)
    """

    counts: dict[str, Json] = field(default_factory=dict)
    rows: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    facts: dict[str, Json] = field(default_factory=dict)
    note: str | None = None
    unfinished: bool = False
    files: list[str] = field(default_factory=list)


def show_task(key: TaskKey) -> dict[str, Json]:
    """Return what the page of a task shows.

    :param key: the task instance
    :raises PageError: if there is no such task instance
    """
    task = load_task(key)
    record, result = task.record, task.xcoms.get(RESULT)
    result = result if isinstance(result, dict) else {}
    if record is None:
        return {"task": task.facts, "ours": False}
    details = RunDetails()
    if record.output is not None:
        details = _show_run(key, record)
    elif record.manifest is not None:
        details = _show_index(key, record.manifest, record.manifest_conn_id)
    counts = details.counts or _counts_of(result)
    notes: list[Json] = [details.note] if details.note else []
    if task.iterated:
        notes.append("The task runs in a loop. This is the iteration that started last.")
    if RESULT in task.too_long:
        notes.append("The task's result is too long to be shown here; see the tab XCom.")
    maximum = _page_rows()
    title = platform(record.platform).title if is_platform(record.platform) else None
    return {
        "task": task.facts,
        "ours": True,
        "platform": title,
        "conn_id": record.conn_id,
        "counts": counts,
        "unfinished": details.unfinished,
        "tokens": _tokens(counts, result),
        "facts": _one_report({**_facts(result), **details.facts}),
        "rows": details.rows or _inline_rows(result, maximum),
        "failed_rows": details.failed,
        "files": [*details.files],
        "jobs": [{"job_id": job_id} for job_id in record.job_ids],
        "kind": None if record.kind is None else record.kind.rpartition("/")[2],
        "links": [
            {"title": title, "url": url}
            for link, title in LINKS.items()
            if isinstance(url := task.xcoms.get(link), str)
            and url.startswith(("https://", "http://"))  # not this page
        ],
        "notes": notes,
    }


def _one_report(facts: dict[str, Json]) -> dict[str, Json]:
    """Facts with the report in HTML alone, where there are two forms of it."""
    html = facts.pop("report html", None)
    return {**facts, "report": html} if html else facts


def show_file(key: TaskKey, name: str) -> dict[str, Json]:
    """Return the beginning of a file that the task has written.

    :param key: the task instance
    :param name: one of `files.FILES`
    :raises PageError: if there is none, or it cannot be read
    """
    return files.show_file(key, name, with_outputs=_page_rows() > 0)


def show_states(key: TaskKey, user: BaseUser) -> dict[str, Json]:
    """Return the states of the jobs that a task has recorded, for users who may read the task's connection.

    :param key: the task instance
    :param user: the user
    :raises PageError: if there is no such task instance, or the user may not
    """
    record = load_task(key).record
    if record is None or not (record.conn_id and record.kind and record.job_ids):
        return {"jobs": []}
    if not may_read_connection(record.conn_id, user):
        raise PageError(
            403, f"You may not read the connection {record.conn_id!r}, so the jobs have no states here."
        )
    return read_states(record.conn_id, record.kind.rpartition("/")[2], record.job_ids)


def _show_run(key: TaskKey, record: TaskRecord) -> RunDetails:
    """Read what a task has written; an error becomes a note."""
    output, conn_id = str(record.output), record.output_conn_id
    try:
        return files.read_store(output, lambda: _read_runs(key, output, conn_id))
    except PageError as error:  # the numbers of the result are shown all the same
        return RunDetails(note=str(error))


def _show_index(key: TaskKey, manifest: str, conn_id: str | None) -> RunDetails:
    """Find out whether the manifest of an index can be shown; if not, say so in a note."""
    try:
        found = files.read_store(manifest, lambda: files.index_manifest(key, manifest, conn_id))
    except PageError as error:
        return RunDetails(note=str(error))
    if found is not None:
        return RunDetails(files=["manifest"])
    return RunDetails(
        note=f"The API server sees no manifest of this run in {manifest}. Perhaps it is not written yet, a later run has "
        "written it, it has more than 20 MB, or the API server does not share this storage with the workers."
    )


def _read_runs(key: TaskKey, output: str, conn_id: str | None) -> RunDetails:
    """Read the run in a folder, or those of the models that an evaluation compares."""
    from airflow_provider_lamini.rows.output.reading import RunFiles
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.storage.run_files import ROLES

    folder = OutputFolder(output, conn_id)
    details = _read_run(key, folder)
    if details is not None:
        return details
    for role in ROLES:
        found = _read_run(key, OutputFolder(f"{output.rstrip('/')}/{role}", conn_id))
        if found is None:
            continue
        found.facts = {f"{name} ({role})": value for name, value in found.facts.items()}
        if details is None:
            details = found
        else:
            details.facts |= found.facts
            details.note = details.note or found.note
            details.unfinished |= found.unfinished
    details = details or RunDetails(
        note=f"The API server sees no rows in {folder}. Perhaps none are written yet, or it does not share this storage with "
        "the workers. Only operators over rows write rows."
    )
    details.files = files.shown_files(key, folder, RunFiles(None), with_outputs=_page_rows() > 0)
    return details


def _read_run(key: TaskKey, folder: OutputFolder) -> RunDetails | None:
    """Read a run; ``None`` if the folder has none."""
    from airflow_provider_lamini.rows.output.reading import first_rows, read_run_files
    from airflow_provider_lamini.rows.storage.run_files import REPORT_HTML

    run = read_run_files(folder)
    if run.ledger is None:
        return None
    if not key.owns(run.ledger.header.owner):
        return RunDetails(
            note=f"The rows in {folder} belong to another task or run, so they are not shown here."
        )
    details = _numbers(run.ledger, run.manifest)
    if run.manifest is not None and REPORT_HTML in run.manifest.reports:
        details.facts["report"] = folder.uri(REPORT_HTML)
    maximum = _page_rows()
    details.files = files.shown_files(key, folder, run, with_outputs=maximum > 0)
    if maximum:
        try:
            details.failed = [_row(row) for row in first_rows(folder, run.errors, maximum)]
            details.rows = [_row(row) for row in first_rows(folder, run.parts, maximum)]
        except RowError as error:
            details.note = f"The rows cannot be shown: {error}"
    return details


def _numbers(ledger: LedgerDocument, manifest: Manifest | None) -> RunDetails:
    counts: Counts = ledger.totals if manifest is None else manifest.counts
    facts: dict[str, Json] = {}
    if manifest is not None:
        facts = {"seconds": manifest.seconds, "model": manifest.model, "input": manifest.input}
    else:
        facts = {"rows written": f"{counts.rows:,} of {ledger.header.total_rows:,}"}
    return RunDetails(
        counts={
            "rows": counts.rows,
            "ok": counts.ok,
            "failed": counts.failed,
            "retried": counts.retried,
            "reused": counts.reused,
            "failures": dict(counts.failures),
            "finish_reasons": dict(counts.finish_reasons),
            "sums": dict(counts.sums),
        },
        facts=facts,
        unfinished=manifest is None,
    )


def _counts_of(result: Mapping[str, Any]) -> dict[str, Json]:
    """The counts in a task's result, if it has any."""
    counts = result.get("counts")
    if isinstance(counts, dict):
        return {
            str(name)[:MAX_TEXT]: _number_or_map(value) for name, value in list(counts.items())[:MAX_FIELDS]
        }
    failures = result.get("failures")
    return {"failures": _number_or_map(failures)} if isinstance(failures, dict) and failures else {}


def _number_or_map(value: object) -> Json:
    if isinstance(value, dict):
        return {str(name)[:MAX_TEXT]: _scalar(each) for name, each in list(value.items())[:MAX_FIELDS]}
    return _scalar(value)


def _tokens(counts: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Json]:
    sums = counts.get("sums") or result.get("tokens")
    if not isinstance(sums, dict):
        return {}
    found = {
        str(name)[:MAX_TEXT].replace("_", " "): _scalar(value)
        for name, value in list(sums.items())[:MAX_FIELDS]
        if str(name).endswith("tokens")
    }
    costs = {
        name: value
        for name in (COST, UNPRICED)
        if isinstance(value := sums.get(name, result.get(name)), int | float)
    }
    cost = describe_cost(costs)
    return found if cost is None else {**found, COST: cost}


def _facts(result: Mapping[str, Any]) -> dict[str, Json]:
    """The short values of a task's result."""
    facts: dict[str, Json] = {}
    for name, value in list(result.items())[:MAX_FIELDS]:
        if name in ("counts", "tokens", "cost", "output", "outputs", "failures") and not _is_folder(
            name, result
        ):
            continue
        if isinstance(value, dict):
            facts |= {
                f"{name}: {inner}"[:MAX_TEXT]: _scalar(each)
                for inner, each in list(value.items())[:MAX_FIELDS]
            }
        elif isinstance(value, str | int | float | bool):
            facts[str(name)[:MAX_TEXT]] = _scalar(value)
    return {name.replace("_", " "): value for name, value in facts.items() if value is not None}


def _is_folder(name: str, result: Mapping[str, Any]) -> bool:
    """Whether a field is the output folder, and not an answer: only results with files say where the manifest is."""
    return name == "output" and "manifest" in result


def _inline_rows(result: Mapping[str, Any], maximum: int) -> list[Json]:
    """The answers that a task has returned itself, as it does for a few prompts."""
    if "manifest" in result or not maximum:
        return []
    answers = result.get("outputs", [result["output"]] if "output" in result else [])
    if not isinstance(answers, list):
        return []
    return [_row({"index": index, "output": answer}) for index, answer in enumerate(answers[:maximum])]


def _row(row: Mapping[str, Any]) -> Json:
    """One row, cut to what a page can show."""
    own = ("index", "output", "error", "error_reason", "reasoning", "finish_reason")
    columns = {name: value for name, value in row.items() if name not in own}
    shown: dict[str, Json] = {
        "index": _scalar(row.get("index")),
        "output": _cut(row.get("output"), MAX_OUTPUT),
        "error": _cut(row.get("error"), MAX_OUTPUT),
        "reason": _cut(row.get("error_reason"), MAX_TEXT),
    }
    shown["columns"] = {
        str(name)[:MAX_TEXT]: _cut(value, MAX_TEXT) for name, value in _first(columns.items())
    }
    return shown


def _first(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return list(items)[:MAX_COLUMNS]


def _cut(value: object, maximum: int) -> str | None:
    """A value as text of a bounded length."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= maximum else f"{text[:maximum]}…"


def _scalar(value: object) -> Json:
    """A short value; numbers that JSON does not allow become text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _cut(value, MAX_TEXT)


def _page_rows() -> int:
    from airflow.providers.common.compat.sdk import conf

    rows: int = conf.getint("airflow_provider_lamini", "page_rows", fallback=20)
    return max(0, min(MAX_ROWS, rows))
