"""Read the results in a task's output folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.upstream import vector_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def rows_in(folder: Path, files: str = "part-*.jsonl") -> list[dict[str, Any]]:
    """Return the rows of all parts, in the order of the parts.

    :param folder: the output folder
    :param files: glob of the files
    """
    lines = (
        line
        for part in sorted(folder.glob(files))
        for line in part.read_text().removesuffix("\n").split("\n")
    )
    return [json.loads(line) for line in lines]


def outputs(rows: list[dict[str, Any]]) -> list[Any]:
    """Return the outputs of rows, and assert that their indices count from 0.

    :param rows: the rows of an output folder
    """
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["output"] for row in rows]


def near(texts: Iterable[str]) -> list[Any]:
    """Return what the vectors of texts compare equal to after rounding.

    :param texts: texts whose vectors the tiny engine computed
    """
    return [pytest.approx(vector_for(text), abs=1e-6) for text in texts]
