"""Rows by a property of their outputs: what the chart of a report shows, counted while the rows are written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Chart:
    """Horizontal bars.

    :param title: what they show
    :param bars: labels with numbers that are not negative
    """

    title: str
    bars: Sequence[tuple[str, float]]


def rows_by_length(outputs: Sequence[object]) -> dict[str, int]:
    """Count texts by their length, in groups whose bounds are powers of two. Other values are not counted.

    :param outputs: the outputs
    :return: rows by the number of bits of the length in characters
    """
    if {*map(type, outputs)} != {str}:
        outputs = [output for output in outputs if isinstance(output, str)]
    groups: Counter[str] = Counter()
    for length, rows in Counter(map(len, cast("Sequence[str]", outputs))).items():  # few lengths, many rows
        groups[str(length.bit_length())] += rows
    return dict(groups)


def length_chart(groups: Mapping[str, int]) -> Chart:
    """The chart of what `rows_by_length` has counted.

    :param groups: rows by group
    """
    by_bits = {int(bits): rows for bits, rows in groups.items()}
    bars = (
        [(_bounds(bits), by_bits.get(bits, 0)) for bits in range(min(by_bits), max(by_bits) + 1)]
        if by_bits
        else []
    )
    return Chart("Rows by length of their output, in characters", bars)


def _bounds(bits: int) -> str:
    smallest, largest = 1 << bits >> 1, (1 << bits) - 1
    return f"{smallest:,} to {largest:,}" if smallest < largest else str(largest)
