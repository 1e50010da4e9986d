"""The demo's Dag and data, and the check of its output."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
DAG_FILE = EXAMPLES / "nightly_batch_inference.py"
DAG_ID = "nightly_batch_inference"
TASK_ID = "categorize_tickets"
CATEGORIES = {"payment", "login", "delivery", "broken", "wish"}
ROWS = 60
CHUNKS = 3
"""The number of chunks into which the Dag splits the rows."""


@dataclass(frozen=True, slots=True)
class Tickets:
    """The input of a run.

    :param file: JSON Lines file of the rows
    :param rows: the same rows
    """

    file: Path
    rows: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        """The customers' texts, which may appear only in the input and the output."""
        return [row["body"] for row in self.rows]

    @property
    def output(self) -> Path:
        """The output folder for the run."""
        return self.file.parent / "output"


def first_tickets(folder: Path, count: int = ROWS) -> Tickets:
    """Copy the first rows of the demo's data into a folder."""
    with (EXAMPLES / "data" / "support_tickets.jsonl").open(encoding="utf-8") as lines:
        rows = list(itertools.islice(lines, count))
    file = folder / "tickets.jsonl"
    file.write_text("".join(rows), encoding="utf-8")
    return Tickets(file, [json.loads(row) for row in rows])


def assert_every_row_once(manifest: Mapping[str, Any], tickets: Tickets) -> None:
    """Compare a manifest and its files with the input. Reads the files as any user could."""
    parts = sorted(Path(str(manifest["output"])).glob("part-*.jsonl"))
    rows = [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    assert [row["index"] for row in rows] == list(range(len(tickets.rows)))
    assert [row["ticket_id"] for row in rows] == [ticket["ticket_id"] for ticket in tickets.rows]
    assert {row["error"] for row in rows} == {None}
    assert {row["output"]["category"] for row in rows} <= CATEGORIES
    counts = manifest["counts"]
    assert (counts["rows"], counts["ok"], counts["failed"]) == (len(tickets.rows), len(tickets.rows), 0)
