"""The files that a run writes to its output folder: their names, which of them exist, and removing them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.storage.folder import WORK

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

LEDGER = "_ledger.json"
"""The ledger of the run."""
MANIFEST = "manifest.json"
"""Written last: if it exists, all parts exist."""
ROLES = ("model", "base")
"""Subfolders of an evaluation, each with the run of a model: the one to judge, and the one to compare it with."""
REPORT = "report.md"
"""The report for people, as Markdown."""
REPORT_HTML = "report.html"
"""The same as HTML, with charts."""
SHARDS = "shards.json"
"""The file that lists the folders of several runs."""
OUTPUT_EXAMPLES = (
    "part-00000.jsonl",
    "part-00000.parquet",
    "errors-00000.jsonl",
    MANIFEST,
    REPORT,
    REPORT_HTML,
    "scores.jsonl",
    "predictions.jsonl",
    f"{WORK}/chunk-00000.round-1.json",
)
"""Names of outputs. A pattern for an input that matches one of them would also match outputs."""

_REPORTS = (REPORT, REPORT_HTML)
_CLAIM = re.compile(rf"{WORK}/owner-\d+")
_KEYS = "_keys-"
_PART = re.compile(r"(?:(?:part|errors)-\d{5,}\.jsonl|part-\d{5,}\.parquet|_keys-\d{5,}\.bin)")
_KEPT_ROWS = re.compile(rf"{WORK}/rows-[0-9a-f]{{32}}-[0-9a-f]{{8}}\.jsonl")
_PARTIAL = re.compile(rf"{WORK}/(?:chunk-\d{{5,}}\.round-\d+\.json|late-\d{{5,}}\.\d+)")


def reservation_file(name: str) -> str:
    """The file that reserves another one for the task that writes it.

    :param name: name of the other file, such as that of a report
    """
    return f"_reserved-{name.partition('.')[0]}.json"


def part_name(number: int, suffix: str = "jsonl") -> str:
    """The file with the results of a chunk. Up to 100,000 parts, names sort in the order of the rows."""
    return f"part-{number:05d}.{suffix}"


def errors_name(number: int) -> str:
    """The file with the failed rows of a chunk."""
    return f"errors-{number:05d}.jsonl"


def keys_name(number: int) -> str:
    """The file with the keys of the rows of a chunk, by which a later run finds their results."""
    return f"{_KEYS}{number:05d}.bin"


def partial_name(number: int, rounds: int) -> str:
    """The file with the results of a chunk after some rounds, while its failed rows are sent again."""
    return f"{WORK}/chunk-{number:05d}.round-{rounds}.json"


def partial_names(number: int, rounds: int) -> list[str]:
    """All such files that a chunk may have.

    :param number: the chunk's number
    :param rounds: number of its rounds
    """
    return [partial_name(number, finished) for finished in range(rounds + 1)]


def claim_name(generation: int) -> str:
    """The file with which a process claims a generation of the ledger."""
    return f"{WORK}/owner-{generation}"


def left_job_name(number: int, intended_at: float) -> str:
    """The file with the job id of an intended submission, until the chunk is finished."""
    return f"{WORK}/late-{number:05d}.{intended_at * 1e6:.0f}"


def kept_rows_file(fingerprint: str, token: str) -> str:
    """The file with the rows of an input that is read once.

    :param fingerprint: `ReadOnceInput.fingerprint`
    :param token: 8 hexadecimal digits, which make the name unique
    """
    return f"{WORK}/rows-{fingerprint}-{token}.jsonl"


def kept_rows_files(folder: OutputFolder, fingerprint: str) -> list[str]:
    """The files with the rows of an input that is read once.

    :param folder: the output folder
    :param fingerprint: `ReadOnceInput.fingerprint`
    """
    names = [name for name in folder.names(work=True) if _KEPT_ROWS.fullmatch(name)]
    return [name for name in names if name.startswith(f"{WORK}/rows-{fingerprint}-")]


def run_files(folder: OutputFolder) -> list[str]:
    """The files of a run in a folder, without its ledger and without files that this package does not write."""
    work_names = folder.start(lambda: folder.names(work=True))
    names = folder.names()
    parts = [name for name in names if _PART.fullmatch(name)]
    partials = [name for name in work_names() if _PARTIAL.fullmatch(name)]
    return [
        *(name for name in names if name in (MANIFEST, *_REPORTS, reservation_file(REPORT))),
        *parts,
        *partials,
    ]


def holds_results(folder: OutputFolder) -> bool:
    """Whether a folder has results of a run.

    Keys of rows are none: they are written before anything is sent. Reports count if they are those of an evaluation.
    """
    return any(not name.startswith(_KEYS) and name not in _REPORTS for name in run_files(folder))


def remove_run(folder: OutputFolder) -> None:
    """Remove the files of a run from a folder, but keep its ledger."""
    names = run_files(folder)
    if MANIFEST in names:
        folder.delete(MANIFEST)  # before the others, because it says that they exist
    folder.delete_all([name for name in names if name != MANIFEST])


def remove_work_files(folder: OutputFolder, *, keep_claims: bool) -> None:
    """Remove the files that only a running run needs: kept rows, partial results, claims and job ids that were left.

    :param folder: the output folder
    :param keep_claims: keep the claims, because a process that has lost the ledger may still look for them
    """
    kinds = (_PARTIAL, _KEPT_ROWS) if keep_claims else (_PARTIAL, _KEPT_ROWS, _CLAIM)
    folder.delete_all(
        [name for name in folder.names(work=True) if any(kind.fullmatch(name) for kind in kinds)]
    )
