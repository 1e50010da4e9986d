"""Figures with their bounds: printed as a table, and an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Figures:
    """What one benchmark has measured.

    :param title: what was measured
    """

    title: str
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def note(self, name: str, value: float, unit: str = "") -> None:
        """A figure without a bound."""
        self.rows.append((name, f"{shown(value)} {unit}".rstrip(), "", ""))

    def bound(self, name: str, value: float, way: Literal["<=", ">="], bound: float, unit: str = "") -> None:
        """A figure that has to be at most, or at least, something."""
        passed = value <= bound if way == "<=" else value >= bound
        if not passed:
            self.missed.append(f"{self.title}: {name}")
        self.rows.append(
            (name, f"{shown(value)} {unit}".rstrip(), f"{way} {shown(bound)}", "pass" if passed else "MISS")
        )

    def show(self) -> None:
        """Print the table."""
        print(f"\n{self.title}")
        for name, value, bound, verdict in self.rows:
            print(f"  {name:<52} {value:>16} {bound:>12}  {verdict}".rstrip(), flush=True)


def exit_code(all_figures: list[Figures], *, check: bool) -> int:
    """Say what was missed; 1 where ``check`` is wanted and something was."""
    missed = [line for figures in all_figures for line in figures.missed]
    for line in missed:
        print(f"MISS {line}")
    return 1 if missed and check else 0


def shown(value: float) -> str:
    """A number for a person: three digits that count."""
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"
