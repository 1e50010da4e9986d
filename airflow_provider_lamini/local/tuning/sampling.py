"""The rows that a tuning job learns from: checked, and no more of them than it can use."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.jobs.runner import JobFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.datasets.shelf import Dataset

MOST_ROWS: Final = 50_000
"""Rows that a job takes at most; they are held in memory."""

CHECK_EVERY: Final = 1000
"""Rows between two looks at whether the job must end."""


def take_rows(dataset: Dataset, target: Path, most: int, seed: int, check: Callable[[], None]) -> int:
    """Write the rows to learn from: all of a dataset, or a random part of a larger one, in its order.

    Every row is checked, also those that are not taken.

    :param dataset: where they come from
    :param target: the file to write, JSON Lines of ``input`` and ``output``; it appears whole
    :param most: rows that the job can use at most
    :param seed: decides which are taken
    :param check: called now and then; what it raises ends it
    :returns: how many were written
    :raises JobFailed: a row is not as it should be, or there is none; it says which
    """
    draw = random.Random(seed)
    taken: list[tuple[int, bytes]] = []
    try:
        for number, row in enumerate(dataset.read()):
            if number % CHECK_EVERY == 0:
                check()
            line = _line(dataset, number, row)
            if len(taken) < most:
                taken.append((number, line))
            elif (place := draw.randrange(number + 1)) < most:
                taken[place] = (number, line)
    except PlatformError as error:
        raise JobFailed(error.detail) from None
    if not taken:
        raise JobFailed(f"Dataset {dataset.id} has no rows.")
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(b"".join(line for _, line in sorted(taken)))
    unfinished.replace(target)
    return len(taken)


def _line(dataset: Dataset, number: int, row: dict[str, Json]) -> bytes:
    pair: dict[str, str] = {}
    for name in ("input", "output"):
        value = row.get(name)
        if not isinstance(value, str):
            raise JobFailed(f"Row {number} of dataset {dataset.id} (from 0) has no text {name!r}.")
        pair[name] = value
    if not pair["output"].strip():
        raise JobFailed(f"Row {number} of dataset {dataset.id} (from 0) has an empty 'output'.")
    return msgspec.json.encode(pair) + b"\n"
