"""Tables of measured figures with their bounds, and the exit status of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Figures:
    """The figures of one benchmark, as a table with one line per figure.

    :param title: what was measured
    """

    title: str
    lines: list[tuple[str, str, str, str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def note(self, label: str, value: float, unit: str = "") -> None:
        """Add a figure without a bound."""
        self.lines.append((label, f"{format_number(value)} {unit}".rstrip(), "", ""))

    def check(
        self, label: str, value: float, comparison: Literal["<=", ">="], bound: float, unit: str = ""
    ) -> None:
        """Add a figure and compare it with its bound."""
        passed = value <= bound if comparison == "<=" else value >= bound
        if not passed:
            self.missed.append(f"{self.title}: {label}")
        self.lines.append(
            (
                label,
                f"{format_number(value)} {unit}".rstrip(),
                f"{comparison} {format_number(bound)}",
                "pass" if passed else "MISS",
            )
        )

    def print(self) -> None:
        """Print the table."""
        print(f"\n{self.title}")
        label_width = max([52, *(len(line[0]) for line in self.lines)])
        value_width = max([16, *(len(line[1]) for line in self.lines)])
        for label, value, bound, verdict in self.lines:
            print(
                f"  {label:<{label_width}} {value:>{value_width}} {bound:>12}  {verdict}".rstrip(), flush=True
            )


def exit_status(tables: list[Figures], *, check: bool) -> int:
    """Print every missed bound.

    :param check: whether a missed bound makes the benchmark fail
    :return: 1 if ``check`` is set and a bound was missed, otherwise 0
    """
    missed = [line for table in tables for line in table.missed]
    for line in missed:
        print(f"MISS {line}")
    return 1 if missed and check else 0


def format_number(value: float) -> str:
    """Format a number with three significant digits, or without decimals from 100 on."""
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"
