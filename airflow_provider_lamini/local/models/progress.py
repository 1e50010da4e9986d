"""Progress display of a pull: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Protocol, TextIO

MEGABYTE = 1_000_000
BAR_WIDTH = 28
REDRAW_SECONDS = 0.1
PLAIN_STEP_PERCENT = 25


class PullProgress(Protocol):
    """Receives the progress of a pull, step by step."""

    def start(self, label: str, total: int | None) -> None:
        """Start a step.

        :param label: what the step does, such as ``Downloading all-MiniLM-L6-v2``
        :param total: total bytes, if known
        """

    def update(self, done: int) -> None:
        """Report how many bytes of the current step are done."""

    def end(self) -> None:
        """End the current step."""

    def note(self, text: str) -> None:
        """Report a message between steps."""


class SilentProgress:
    """Discards all progress."""

    def start(self, label: str, total: int | None) -> None:
        """Discard the start of a step."""

    def update(self, done: int) -> None:
        """Discard the number of bytes done."""

    def end(self) -> None:
        """Discard the end of a step."""

    def note(self, text: str) -> None:
        """Discard the message."""


class ConsoleProgress:
    """Writes progress to a stream: a bar that redraws itself on a terminal, otherwise one line per 25 %.

    :param stream: the stream to write to, such as ``sys.stderr``
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._label = ""
        self._total: int | None = None
        self._done = 0
        self._started = 0.0
        self._last_drawn = 0.0
        self._next_percent = 0

    def start(self, label: str, total: int | None) -> None:
        """Start a step; without a terminal, write its label and size."""
        self._label, self._total, self._done = label, total, 0
        self._started = time.monotonic()
        self._last_drawn = 0.0
        self._next_percent = PLAIN_STEP_PERCENT
        if self._live:
            self._draw()
        else:
            size = f" ({_megabytes(total)} MB)" if total else ""
            self._write(f"{label}{size}\n")

    def update(self, done: int) -> None:
        """Redraw the bar, or write a line when another quarter is done."""
        self._done = done
        if self._live:
            if time.monotonic() - self._last_drawn >= REDRAW_SECONDS:
                self._draw()
        elif self._total and self._percent() >= self._next_percent:
            self._write(f"{self._label}: {self._percent()}%, {self._amount()}\n")
            while self._next_percent <= self._percent():
                self._next_percent += PLAIN_STEP_PERCENT

    def end(self) -> None:
        """End the current step."""
        if self._live:
            self._draw()
            self._write("\n")

    def note(self, text: str) -> None:
        """Write a message on a line of its own."""
        self._write(f"{text}\n")

    def _percent(self) -> int:
        return min(100, 100 * self._done // self._total) if self._total else 0

    def _amount(self) -> str:
        total = f" of {_megabytes(self._total)}" if self._total else ""
        return f"{_megabytes(self._done)}{total} MB"

    def _draw(self) -> None:
        self._last_drawn = time.monotonic()
        seconds = self._last_drawn - self._started
        rate = f", {self._done / MEGABYTE / seconds:.1f} MB/s" if seconds >= 1 else ""
        bar = ""
        if self._total:
            filled = BAR_WIDTH * self._percent() // 100
            bar = f" [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {self._percent():3d}%"
        # \x1b[K clears the rest of a longer previous line.
        self._write(f"\r{self._label}{bar}  {self._amount()}{rate}\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _megabytes(size: int | None) -> str:
    megabytes = (size or 0) / MEGABYTE
    return f"{megabytes:.0f}" if megabytes >= 1 else f"{megabytes:.1f}"
