"""The rows that a tuning job trains on: validated, and sampled from large datasets."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.jobs.runner import JobFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.datasets.repository import StoredDataset

MAX_ROWS: Final = 50_000
"""Maximum rows per job; they are held in memory."""

CHECK_EVERY: Final = 1000
"""Rows to read before checking again whether the job must stop."""


def sample_rows(
    dataset: StoredDataset, target: Path, limit: int, seed: int, check: Callable[[], None]
) -> int:
    """Write the rows to train on: the whole dataset, or a reservoir sample of a larger one, in the original order.

    Every row is validated, including those that are not sampled.

    :param dataset: the dataset to read
    :param target: the JSON Lines file with ``input`` and ``output`` to write atomically
    :param limit: maximum number of rows
    :param seed: seed of the sample
    :param check: called every 1000 rows; an exception it raises stops the sampling
    :return: number of rows written
    :raises JobFailed: a row is invalid, or there are no rows
    """
    generator = random.Random(seed)
    sample: list[tuple[int, bytes]] = []
    try:
        for number, row in enumerate(dataset.read()):
            if number % CHECK_EVERY == 0:
                check()
            line = _encode_row(dataset, number, row)
            if len(sample) < limit:
                sample.append((number, line))
            elif (index := generator.randrange(number + 1)) < limit:
                sample[index] = (number, line)
    except ApiError as error:
        raise JobFailed(error.detail) from None
    if not sample:
        raise JobFailed(f"Dataset {dataset.id} has no rows.")
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(b"".join(line for _, line in sorted(sample)))
    unfinished.replace(target)
    return len(sample)


def _encode_row(dataset: StoredDataset, number: int, row: dict[str, Json]) -> bytes:
    pair: dict[str, str] = {}
    for name in ("input", "output"):
        value = row.get(name)
        if not isinstance(value, str):
            raise JobFailed(f"Row {number} of dataset {dataset.id} (counted from 0) has no string {name!r}.")
        pair[name] = value
    if not pair["output"].strip():
        raise JobFailed(f"Row {number} of dataset {dataset.id} (counted from 0) has an empty 'output'.")
    return msgspec.json.encode(pair) + b"\n"
