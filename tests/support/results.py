"""Reads what a task has left in its output folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.upstream import vector_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def rows_in(folder: Path, files: str = "part-*.jsonl") -> list[dict[str, Any]]:
    """The rows of all parts, in the order of the parts.

    :param folder: the output folder
    :param files: which files
    """
    lines = (line for part in sorted(folder.glob(files)) for line in part.read_text().splitlines())
    return [json.loads(line) for line in lines]


def outputs(rows: list[dict[str, Any]]) -> list[Any]:
    """The outputs of rows, whose indices have to count from 0.

    :param rows: the rows of an output folder
    """
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["output"] for row in rows]


def near(texts: Iterable[str]) -> list[Any]:
    """What the vectors of texts compare with, when they may be rounded.

    :param texts: what the tiny engine was asked
    """
    return [pytest.approx(vector_for(text), abs=1e-6) for text in texts]
