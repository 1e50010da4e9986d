"""Numbers that users write, which templates and tables may have turned into text."""

from __future__ import annotations

import math

LARGEST = 2**31 - 1
"""The largest whole number that users may write: more than any task needs, and every platform can parse it."""


def finite(value: object) -> float:
    """A finite number; NaN for anything else.

    :param value: a number, or its text
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
