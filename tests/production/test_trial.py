"""The production trial sees a loss and a duplicate."""

from __future__ import annotations

import json

import pytest

from tests.production.trial import lost_and_doubled, read_logs

IDS = ["0-0", "0-1", "0-2"]


def row(ticket_id, error=None):
    return {"ticket_id": ticket_id, "error": error}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row("0-0"), row("0-1"), row("0-2")], (0, 0)),
        ([row("0-0"), row("0-2")], (1, 0)),
        ([row("0-0"), row("0-1", "no answer"), row("0-2")], (1, 0)),
        ([row("0-0"), row("0-0"), row("0-1"), row("0-2")], (0, 1)),
        ([row("0-0"), row("0-2"), row("0-1")], (0, 2)),
    ],
    ids=["all", "missing", "unanswered", "twice", "swapped"],
)
def test_lost_and_doubled_rows_are_counted(rows, found):
    assert lost_and_doubled(rows, IDS) == found


def test_the_warnings_of_tasks_and_triggers_are_counted(tmp_path):
    folder = (
        tmp_path / "logs" / "dag_id=sharded_batch_inference" / "run_id=a" / "task_id=infer" / "map_index=3"
    )
    folder.mkdir(parents=True)
    lines = [
        {"level": "info", "event": "Submitted job 17."},
        {"level": "warning", "event": "Job 17 has vanished."},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    for name in ("attempt=1.log", "attempt=2.log", "attempt=1.log.trigger.9.log"):
        (folder / name).write_text(text)
    assert read_logs(tmp_path) == (2, 1, {"warning: Job N has vanished.": 3})
