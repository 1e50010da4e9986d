"""Rows through the operators, compared with the barest loop that could do the same and with the official client.

``python bench/rows.py`` is the short form; ``--full`` processes a million rows for each figure. Each variant runs in a
process of its own. A stub in another process always responds at once with the same body, so that only the worker's cost
remains. ``--reuse`` only measures a second run over a million rows of which one in a hundred has changed. ``--check`` exits
with 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.instant_jobs import running_stub
from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm

WORKER = ROOT / "bench" / "support" / "rows_worker.py"
CLIENT = ROOT / "bench" / "support" / "rows_client.py"
CLIENT_PYTHON = ROOT / ".venv-client" / "bin" / "python"
CLIENT_ROWS = 20_000
MILLION = 1_000_000
TIMEOUT = 900
"""Seconds that one run may take."""
TEXT = "It stopped working after the update, please help. " * 4
MIN_RATIO = 0.6
MIN_PARQUET_RATIO = 0.5
"""The loop has no lines to decode here, so what the operator does with each row weighs more."""
MIN_SMALL_CHUNKS_RATIO = 0.5
"""Each chunk costs three files that the loop does not write."""
MIN_EMBEDDING_RATIO = 0.5
MAX_MEMORY = 200
"""MiB above an idle worker."""
MAX_MEMORY_RATIO = 1.2
"""For ten times as many rows; two runs over the same rows differ by up to a tenth."""


@dataclass(frozen=True, slots=True)
class Chunking:
    """How rows are divided into jobs.

    :param rows: rows per chunk
    :param in_flight: jobs at once
    """

    rows: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.rows:,} per chunk, {self.in_flight} jobs at once"


LARGE_CHUNKS = Chunking(10_000, 32)
DEFAULT_CHUNKS = Chunking(1000, 8)
MANY_CHUNKS = Chunking(1000, 32)
"""For memory: from 32,000 rows on, as many jobs are in flight as may be."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows are measured.

    :param large_chunks: rows in large chunks
    :param default_chunks: rows in chunks of the operator's default size
    :param memory: rows for the first memory measurement
    :param memory_tenfold: rows for the second, which must not take more memory
    :param embeddings: texts for embeddings
    """

    large_chunks: int = MILLION
    default_chunks: int = 400_000
    memory: int = 40_000
    memory_tenfold: int = 400_000
    embeddings: int = 20_000


SHORT = Sizes()
FULL = Sizes(default_chunks=MILLION, memory=100_000, memory_tenfold=MILLION, embeddings=100_000)


@dataclass(frozen=True, slots=True)
class Input:
    """An input file.

    :param path: path of the file
    :param rows: number of rows
    """

    path: Path
    rows: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took.

    :param rows: number of rows
    :param seconds: wall-clock time
    :param cpu: CPU seconds of the worker's process
    :param memory: peak memory in MiB, above the same process when idle
    :param idle_memory: memory in MiB of the idle process
    """

    rows: int
    seconds: float
    cpu: float
    memory: float
    idle_memory: float

    @property
    def rows_per_cpu_second(self) -> float:
        return self.rows / self.cpu

    @property
    def rows_per_second(self) -> float:
        """Rows per second of wall-clock time."""
        return self.rows / self.seconds


def write_rows(path: Path, count: int, *, changed_every: int = 0) -> Input:
    """Write an input of about 430 bytes per row, half of them in a column that no prompt uses.

    :param changed_every: the text of one row among so many differs; 0 for none. Only for JSON Lines
    """
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
            change = "changed " if changed_every and number % changed_every == 0 else ""
            file.write(f'{{"id":{number},"text":"{change}{TEXT}{number}","more":"{TEXT}"}}\n')
    return Input(path, count)


def run(
    variant: str,
    source: Input,
    folder: Path,
    chunking: Chunking,
    *,
    output: Path | None = None,
    reuse_from: Path | None = None,
    rows_sent: int | None = None,
    port: int = 0,
) -> Cost:
    """Run one variant in a process of its own, against a stub of its own.

    :param variant: ``client``, or a variant of ``rows_worker.py``
    :param folder: folder for temporary files
    :param output: output folder to keep
    :param reuse_from: output folder of an earlier run
    :param rows_sent: rows of each job, if not all rows of a chunk are sent
    :param port: the stub's port; 0 for any free one
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "ROWS_PER_CHUNK": str(chunking.rows),
        "JOBS_IN_FLIGHT": str(chunking.in_flight),
        "REUSE_FROM": str(reuse_from or ""),
    }
    with (
        running_stub(rows_sent or chunking.rows, port) as url,
        tempfile.TemporaryDirectory(dir=folder) as temporary,
    ):
        target = str(output or f"{temporary}/out")
        command = [sys.executable, str(WORKER), variant, str(source.path), target, url]
        if variant == "client":
            command[:2] = [str(CLIENT_PYTHON), str(CLIENT)]
            environment |= {"LAMINI_API_URL": url, "LAMINI_API_KEY": "key", "HOME": temporary}
            environment |= {
                "LAMINI_BATCH_SIZE": str(chunking.rows),
                "LAMINI_MAX_WORKERS": str(chunking.in_flight),
            }
        process = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False
        )
    if process.returncode:
        raise RuntimeError(f"{variant} failed:\n{process.stdout[-2000:]}\n{process.stderr[-2000:]}")
    cost: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return Cost(source.rows, **cost)


def compare(
    figures: Figures,
    variants: tuple[str, str],
    source: Input,
    folder: Path,
    *,
    chunking: Chunking,
    min_ratio: float,
    pairs: int = 2,
) -> None:
    """Compare an operator with the barest loop.

    :param variants: the operator and the loop; they run alternately
    :param min_ratio: bound for the median of the pairs' ratios
    """
    cpu_ratios, wall_clock_ratios = [], []
    for _ in range(pairs):
        ours, loop = (run(variant, source, folder, chunking) for variant in variants)
        cpu_ratios.append(ours.rows_per_cpu_second / loop.rows_per_cpu_second)
        wall_clock_ratios.append(ours.rows_per_second / loop.rows_per_second)
    title = f"{source.path.suffix[1:]}, {source.rows:,} rows, {chunking}"
    for variant, cost in zip(variants, (ours, loop), strict=True):
        figures.note(f"{title}: {variant}", cost.rows_per_cpu_second, "rows/CPU s")
        figures.note(f"{title}: {variant}, wall-clock", cost.rows_per_second, "rows/s")
    figures.check(f"{title}: ratio", median(cpu_ratios), ">=", min_ratio)
    figures.note(f"{title}: ratio, wall-clock", median(wall_clock_ratios))


def compare_memory(figures: Figures, suffix: str, counts: tuple[int, int], folder: Path) -> None:
    """Compare the operator's memory for some rows and for ten times as many."""
    few, many = (
        run("operator", write_rows(folder / f"{count}{suffix}", count), folder, MANY_CHUNKS)
        for count in counts
    )
    title = f"{suffix[1:]}, {MANY_CHUNKS}"
    figures.note(f"{title}: memory above an idle worker, {few.rows:,} rows", few.memory, "MiB")
    label = f"{title}: memory above an idle worker, {many.rows:,} rows"
    figures.check(label, many.memory, "<=", MAX_MEMORY, "MiB")
    figures.check(f"{title}: memory, ratio", many.memory / few.memory, "<=", MAX_MEMORY_RATIO)


def compare_with_client(figures: Figures, folder: Path) -> None:
    """Compare the operator with the official client's pipeline, with the same stub and rows."""
    if not CLIENT_PYTHON.exists():
        print("The official client is not installed; run 'make test-client' to create its environment.")
        return
    source = write_rows(folder / "client.jsonl", CLIENT_ROWS)
    theirs, ours = (run(variant, source, folder, MANY_CHUNKS) for variant in ("client", "operator"))
    title = f"{CLIENT_ROWS:,} rows, {MANY_CHUNKS}"
    figures.note(f"{title}: official client", theirs.rows_per_cpu_second, "rows/CPU s")
    figures.note(f"{title}: operator", ours.rows_per_cpu_second, "rows/CPU s")
    figures.note("CPU of the official client, relative to the operator", theirs.cpu / ours.cpu)
    figures.note("time of the official client, relative to the operator", theirs.seconds / ours.seconds)


def compare_inference(figures: Figures, sizes: Sizes, folder: Path) -> None:
    """Compare batch inference with the barest loop, in large and in default chunks, and its memory."""
    variants = ("operator", "barest loop")
    for suffix, min_ratio in ((".jsonl", MIN_RATIO), (".parquet", MIN_PARQUET_RATIO)):
        source = write_rows(folder / f"rows{suffix}", sizes.large_chunks)
        compare(figures, variants, source, folder, chunking=LARGE_CHUNKS, min_ratio=min_ratio)
        source.path.unlink()
        compare_memory(figures, suffix, (sizes.memory, sizes.memory_tenfold), folder)
    source = write_rows(folder / "small.jsonl", sizes.default_chunks)
    compare(
        figures, variants, source, folder, chunking=DEFAULT_CHUNKS, min_ratio=MIN_SMALL_CHUNKS_RATIO, pairs=1
    )


def compare_embeddings(figures: Figures, sizes: Sizes, folder: Path) -> None:
    """Compare embeddings with the barest loop."""
    variants = ("embedding operator", "barest embedding loop")
    source = write_rows(folder / "texts.jsonl", sizes.embeddings)
    compare(figures, variants, source, folder, chunking=DEFAULT_CHUNKS, min_ratio=MIN_EMBEDDING_RATIO)


def compare_reuse(figures: Figures, rows: int, folder: Path) -> None:
    """Measure a run over rows of which one in a hundred has changed since an earlier run."""
    share = 100
    first, second = folder / "first", folder / "second"
    # Results are reused only of the same platform, so both stubs have one address.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    before = write_rows(folder / "before.jsonl", rows)
    whole = run("operator", before, folder, LARGE_CHUNKS, output=first, port=port)
    before.path.unlink()
    after = write_rows(folder / "after.jsonl", rows, changed_every=share)
    again = run(
        "operator",
        after,
        folder,
        LARGE_CHUNKS,
        output=second,
        reuse_from=first,
        rows_sent=LARGE_CHUNKS.rows // share,
        port=port,
    )
    counts = json.loads((second / "manifest.json").read_text())["counts"]
    sent = counts["rows"] - counts["reused"]
    figures.check(f"{rows:,} rows, 1% changed: rows sent", sent, "<=", rows // share)
    figures.check("rows without an output", counts["failed"], "<=", 0)
    for title, cost in (("the first run", whole), ("the run that reuses", again)):
        figures.note(f"{title}: time", cost.seconds, "s")
        figures.note(f"{title}: CPU", cost.cpu, "s")
        figures.check(f"{title}: memory above an idle worker", cost.memory, "<=", MAX_MEMORY, "MiB")


def main() -> int:
    """Run all comparisons.

    :return: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="a million rows for each figure")
    parser.add_argument("--reuse", action="store_true", help="only a run over rows of which 1%% has changed")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    options = parser.parse_args()
    sizes = FULL if options.full else SHORT
    inference = Figures("Rows through batch inference")
    embeddings = Figures("Texts to embeddings in Parquet")
    client = Figures("Compared with the official client")
    reuse = Figures("A run that reuses the results of another")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A first run compiles all modules, as installing a package does.
        run("operator", write_rows(folder / "first.jsonl", DEFAULT_CHUNKS.rows), folder, DEFAULT_CHUNKS)
        if options.reuse:
            compare_reuse(reuse, MILLION, folder)
            reuse.print()
            return exit_status([reuse], check=options.check)
        compare_inference(inference, sizes, folder)
        inference.print()
        compare_embeddings(embeddings, sizes, folder)
        embeddings.print()
        compare_with_client(client, folder)
        client.print()
    return exit_status([inference, embeddings, client], check=options.check)


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
