"""Names of the files of a run in its output folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.storage.folder import WORK

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

LEDGER = "_ledger.json"
"""The record of the run."""
MANIFEST = "manifest.json"
"""Written last, when all parts are there."""

_OWNER = re.compile(rf"{WORK}/owner-\d+")
_PART = re.compile(r"(?:(?:part|errors)-\d{5,}\.jsonl|part-\d{5,}\.parquet)")
_STAGE = re.compile(rf"{WORK}/(?:chunk-\d{{5,}}\.round-\d+\.json|late-\d{{5,}}\.\d+)")


def part_name(number: int, suffix: str = "jsonl") -> str:
    """The file with the results of a chunk. Up to 100,000 of them, names sort as the rows do."""
    return f"part-{number:05d}.{suffix}"


def errors_name(number: int) -> str:
    """The file with those rows of a chunk that failed."""
    return f"errors-{number:05d}.jsonl"


def stage_name(number: int, rounds: int) -> str:
    """The file with what earlier rounds of a chunk brought."""
    return f"{WORK}/chunk-{number:05d}.round-{rounds}.json"


def owner_name(generation: int) -> str:
    """The file whose writer is the process that took the folder over as the so-many-eth."""
    return f"{WORK}/owner-{generation}"


def late_name(number: int, intended_at: float) -> str:
    """The file with what became of an intent whose process was no longer in charge when it was known."""
    return f"{WORK}/late-{number:05d}.{intended_at * 1e6:.0f}"


def run_files(folder: OutputFolder) -> list[str]:
    """Files of a run in a folder, but for its ledger. Other people's files are not among them."""
    names = folder.names()
    parts = [name for name in names if _PART.fullmatch(name)]
    stages = [name for name in folder.names(work=True) if _STAGE.fullmatch(name)]
    # The manifest is first, because it says that the others are there.
    return [*(name for name in names if name == MANIFEST), *parts, *stages]


def remove_run(folder: OutputFolder) -> None:
    """Remove the files of a run from a folder, but for its ledger."""
    for name in run_files(folder):
        folder.delete(name)


def remove_stages(folder: OutputFolder) -> None:
    """Remove what was kept while the run lasted: between the rounds of chunks, and of who was in charge."""
    for name in folder.names(work=True):
        if _STAGE.fullmatch(name) or _OWNER.fullmatch(name):
            folder.delete(name)
