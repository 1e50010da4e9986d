"""Tests for the progress display of a pull."""

from __future__ import annotations

import io

from airflow_provider_lamini.local.models.progress import ConsoleProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_every_quarter_is_a_plain_line() -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    progress.start("Downloading model", 100_000_000)
    for megabytes in range(0, 101, 5):
        progress.update(megabytes * 1_000_000)
    progress.end()
    assert stream.getvalue().splitlines() == [
        "Downloading model (100 MB)",
        "Downloading model: 25%, 25 of 100 MB",
        "Downloading model: 50%, 50 of 100 MB",
        "Downloading model: 75%, 75 of 100 MB",
        "Downloading model: 100%, 100 of 100 MB",
    ]


def test_on_a_terminal_one_line_is_redrawn_up_to_100_percent() -> None:
    stream = Terminal()
    progress = ConsoleProgress(stream)
    progress.start("Downloading model", 2_000_000)
    progress.update(1_000_000)
    progress.update(2_000_000)
    progress.end()
    output = stream.getvalue()
    assert output.count("\n") == 1
    last = output.rstrip("\n").split("\r")[-1]
    assert "100%" in last
    assert "2 of 2 MB" in last


def test_an_unknown_size_shows_the_bytes_so_far() -> None:
    stream = Terminal()
    progress = ConsoleProgress(stream)
    progress.start("Downloading model", None)
    progress.update(3_000_000)
    progress.end()
    assert "3 MB" in stream.getvalue()
    assert "%" not in stream.getvalue()


def test_a_note_is_a_separate_line() -> None:
    stream = io.StringIO()
    ConsoleProgress(stream).note("ready")
    assert stream.getvalue() == "ready\n"
