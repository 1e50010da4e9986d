"""How a pull tells a person how far it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Protocol, TextIO

MEGABYTE = 1_000_000
BAR_WIDTH = 28
REDRAW_SECONDS = 0.1
PLAIN_STEP_PERCENT = 25


class Progress(Protocol):
    """What a pull reports to."""

    def start(self, label: str, total: int | None) -> None:
        """Begin a step.

        :param label: what is done, such as ``Downloading all-MiniLM-L6-v2``
        :param total: bytes in all, where known
        """

    def update(self, done: int) -> None:
        """Say how many bytes of the step are done."""

    def end(self) -> None:
        """End the step that was begun."""

    def note(self, text: str) -> None:
        """Say one sentence between steps."""


class SilentProgress:
    """Reports to nobody."""

    def start(self, label: str, total: int | None) -> None:
        """Begin a step."""

    def update(self, done: int) -> None:
        """Say how many bytes of the step are done."""

    def end(self) -> None:
        """End the step that was begun."""

    def note(self, text: str) -> None:
        """Say one sentence between steps."""


class ConsoleProgress:
    """Reports to a stream: a bar that redraws itself on a terminal, else a line per quarter.

    :param stream: where to write, such as ``sys.stderr``
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._label = ""
        self._total: int | None = None
        self._done = 0
        self._began = 0.0
        self._drawn = 0.0
        self._next_percent = 0

    def start(self, label: str, total: int | None) -> None:
        """Begin a step."""
        self._label, self._total, self._done = label, total, 0
        self._began = time.monotonic()
        self._drawn = 0.0
        self._next_percent = PLAIN_STEP_PERCENT
        if self._live:
            self._draw()
        else:
            size = f" ({_megabytes(total)} MB)" if total else ""
            self._write(f"{label}{size}\n")

    def update(self, done: int) -> None:
        """Say how many bytes of the step are done."""
        self._done = done
        if self._live:
            if time.monotonic() - self._drawn >= REDRAW_SECONDS:
                self._draw()
        elif self._total and self._percent() >= self._next_percent:
            self._write(f"{self._label}: {self._percent()}%, {self._amount()}\n")
            while self._next_percent <= self._percent():
                self._next_percent += PLAIN_STEP_PERCENT

    def end(self) -> None:
        """End the step that was begun."""
        if self._live:
            self._draw()
            self._write("\n")

    def note(self, text: str) -> None:
        """Say one sentence between steps."""
        self._write(f"{text}\n")

    def _percent(self) -> int:
        return min(100, 100 * self._done // self._total) if self._total else 0

    def _amount(self) -> str:
        total = f" of {_megabytes(self._total)}" if self._total else ""
        return f"{_megabytes(self._done)}{total} MB"

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        seconds = self._drawn - self._began
        rate = f", {self._done / MEGABYTE / seconds:.1f} MB/s" if seconds >= 1 else ""
        bar = ""
        if self._total:
            filled = BAR_WIDTH * self._percent() // 100
            bar = f" [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {self._percent():3d}%"
        # \x1b[K clears what a longer line before has left behind.
        self._write(f"\r{self._label}{bar}  {self._amount()}{rate}\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _megabytes(size: int | None) -> str:
    megabytes = (size or 0) / MEGABYTE
    return f"{megabytes:.0f}" if megabytes >= 1 else f"{megabytes:.1f}"
