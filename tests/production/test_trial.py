"""The production trial sees a loss and a duplicate."""

from __future__ import annotations

import pytest

from tests.production.trial import lost_and_doubled

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
