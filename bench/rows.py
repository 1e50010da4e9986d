"""Rows through the operators, beside the barest loop that could take them and the official client.

``python bench/rows.py`` is the short form, ``--full`` takes a million rows throughout. A stub in another process answers at
once with the same body, so that what is measured is the cost of the worker: each way runs in a process of its own.
``--check`` ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.rows_stub import stub
from bench.support.bounds import Figures, exit_code

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parent / ".venv-client" / "bin" / "python"
CLIENT_ROWS = 20_000
MILLION = 1_000_000
TIME_LIMIT = 900
"""Seconds that one run may take."""
TEXT = "It stopped working after the update, please help. " * 4
LEAST_RATE = 0.6
LEAST_RATE_OF_VECTORS = 0.5
MOST_MEMORY = 200
MOST_GROWTH = 1.1


@dataclass(frozen=True, slots=True)
class Chunks:
    """How the rows are cut.

    :param rows: rows per chunk
    :param in_flight: jobs under way at once
    """

    rows: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.rows:,} per chunk, {self.in_flight} at once"


LARGE = Chunks(10_000, 32)
DEFAULT = Chunks(1000, 8)
MANY = Chunks(1000, 32)
"""As many chunks as fit in flight are there from 32,000 rows on: memory is the same from then on."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    :param large: rows that go through in large chunks
    :param small: rows that go through in chunks as an operator has them by default
    :param few: rows beside which those of ``many`` must not take more memory
    :param many: ten times as many
    :param texts: texts that become vectors
    """

    large: int = MILLION
    small: int = 400_000
    few: int = 40_000
    many: int = 400_000
    texts: int = 20_000


SHORT = Sizes()
FULL = Sizes(small=MILLION, few=100_000, many=MILLION, texts=100_000)


@dataclass(frozen=True, slots=True)
class Input:
    """A file of rows.

    :param path: where it lies
    :param rows: how many it has
    """

    path: Path
    rows: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What one way took.

    :param rows: how many rows there were
    :param seconds: by the clock
    :param cpu: seconds of CPU of the worker's process
    :param memory: MiB at the peak, above the same process when it was idle
    :param idle: MiB of the idle process
    """

    rows: int
    seconds: float
    cpu: float
    memory: float
    idle: float

    @property
    def per_cpu_second(self) -> float:
        """Rows per second of CPU."""
        return self.rows / self.cpu

    @property
    def per_second(self) -> float:
        """Rows per second by the clock."""
        return self.rows / self.seconds


def write_rows(path: Path, count: int) -> Input:
    """Write an input of about 430 bytes per row, of which half is a column that nobody asks for."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema({"id": pa.int64(), "text": pa.string(), "more": pa.string()})
        with parquet.ParquetWriter(path, schema) as file:
            for first in range(0, count, 10_000):
                ids = range(first, first + 10_000)
                columns = {"id": ids, "text": [f"{TEXT}{number}" for number in ids], "more": [TEXT] * 10_000}
                file.write_table(pa.table(columns))
        return Input(path, count)
    with path.open("w") as file:
        for number in range(count):
            file.write(f'{{"id":{number},"text":"{TEXT}{number}","more":"{TEXT}"}}\n')
    return Input(path, count)


def run(way: str, given: Input, folder: Path, how: Chunks) -> Taken:
    """One way over one input, in a process of its own against a stub of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "ROWS_PER_CHUNK": str(how.rows),
        "JOBS_IN_FLIGHT": str(how.in_flight),
    }
    with stub(how.rows) as url, tempfile.TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, str(HERE / "rows_work.py"), way, str(given.path), f"{output}/out", url]
        if way == "client":
            command[:2] = [str(CLIENT), str(HERE / "rows_client.py")]
            environment |= {"LAMINI_API_URL": url, "LAMINI_API_KEY": "key", "HOME": output}
            environment |= {"LAMINI_BATCH_SIZE": str(how.rows), "LAMINI_MAX_WORKERS": str(how.in_flight)}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIME_LIMIT, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    took: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Taken(given.rows, **took)


def rate(
    figures: Figures,
    ways: tuple[str, str],
    given: Input,
    folder: Path,
    *,
    how: Chunks,
    least: float,
    pairs: int = 2,
) -> None:
    """An operator and the barest loop by turns; the ratio is the median of the pairs'."""
    by_cpu, by_clock = [], []
    for _ in range(pairs):
        ours, bare = (run(way, given, folder, how) for way in ways)
        by_cpu.append(ours.per_cpu_second / bare.per_cpu_second)
        by_clock.append(ours.per_second / bare.per_second)
    name = f"{given.path.suffix[1:]}, {given.rows:,} rows, {how}"
    for way, taken in zip(ways, (ours, bare), strict=True):
        figures.note(f"{name}: {way}", taken.per_cpu_second, "rows/CPU s")
        figures.note(f"{name}: {way}, by the clock", taken.per_second, "rows/s")
    figures.bound(f"{name}: rate of the barest loop, CPU", median(by_cpu), ">=", least)
    figures.note(f"{name}: rate of the barest loop, by the clock", median(by_clock))


def memory(figures: Figures, suffix: str, counts: tuple[int, int], folder: Path) -> None:
    """What the same worker takes above its idle self, for some rows and for ten times as many."""
    few, many = (
        run("operator", write_rows(folder / f"{count}{suffix}", count), folder, MANY) for count in counts
    )
    name = f"{suffix[1:]}, {MANY}"
    figures.note(f"{name}: above an idle worker, {few.rows:,} rows", few.memory, "MiB")
    figures.bound(f"{name}: above an idle worker, {many.rows:,} rows", many.memory, "<=", MOST_MEMORY, "MiB")
    figures.bound(f"{name}: memory of ten times the rows", many.memory / few.memory, "<=", MOST_GROWTH)


def client(figures: Figures, folder: Path) -> None:
    """The official client's pipeline beside the operator, on the same stub and rows."""
    if not CLIENT.exists():
        print("The official client is not here; 'make test-client' makes its environment.")
        return
    given = write_rows(folder / "client.jsonl", CLIENT_ROWS)
    theirs, ours = (run(way, given, folder, MANY) for way in ("client", "operator"))
    figures.note(f"{CLIENT_ROWS:,} rows, {MANY}: official client", theirs.per_cpu_second, "rows/CPU s")
    figures.note(f"{CLIENT_ROWS:,} rows, {MANY}: operator", ours.per_cpu_second, "rows/CPU s")
    figures.note("CPU of the official client over the operator's", theirs.cpu / ours.cpu)
    figures.note("time of the official client over the operator's", theirs.seconds / ours.seconds)


def main() -> int:
    """Run what is asked for.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="a million rows for each figure")
    parser.add_argument("--check", action="store_true", help="end with 1 where a bound is missed")
    options = parser.parse_args()
    sizes = FULL if options.full else SHORT
    inference, texts, beside = (
        Figures("Rows through batch inference"),
        Figures("Texts to vectors in Parquet"),
        Figures("Beside the official client"),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A first run compiles all modules, as they are where a package is installed.
        run("operator", write_rows(folder / "first.jsonl", DEFAULT.rows), folder, DEFAULT)
        for suffix in (".jsonl", ".parquet"):
            given = write_rows(folder / f"rows{suffix}", sizes.large)
            rate(inference, ("operator", "bare"), given, folder, how=LARGE, least=LEAST_RATE)
            given.path.unlink()
            memory(inference, suffix, (sizes.few, sizes.many), folder)
        given = write_rows(folder / "small.jsonl", sizes.small)
        rate(inference, ("operator", "bare"), given, folder, how=DEFAULT, least=LEAST_RATE, pairs=1)
        inference.show()
        given = write_rows(folder / "texts.jsonl", sizes.texts)
        rate(texts, ("embedding", "bare-vectors"), given, folder, how=DEFAULT, least=LEAST_RATE_OF_VECTORS)
        texts.show()
        client(beside, folder)
        beside.show()
    return exit_code([inference, texts, beside], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
