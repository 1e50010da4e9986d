"""Writes the answers of a classifier, and counts them by class."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.counts import by_number
from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.rows.output.parts import PartWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

NO_CLASS = "(no class)"
"""The group of rows of which no class reaches the threshold."""


class ClassLines(PartWriter):
    """Writes classes as JSON Lines.

    :param folder: the output folder
    :param passthrough: columns to copy into the output
    """

    def groups(self, result: ChunkResult) -> dict[str, int]:
        return dict(Counter(output["class"] or NO_CLASS for output in result.outputs if output is not None))

    @staticmethod
    def chart(groups: Mapping[str, int]) -> Chart:
        return Chart("Rows by class", by_number(groups))
