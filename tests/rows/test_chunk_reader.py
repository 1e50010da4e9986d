from __future__ import annotations

import gzip
import json
import time

import pytest

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.source import open_source

SIZE = 7
COUNT = 100


@pytest.fixture(params=["in.jsonl", "in.jsonl.gz", "*.jsonl"])
def path(request, tmp_path):
    """A file, a gzipped file, and a glob of two, of a hundred rows."""
    lines = [json.dumps({"n": number, "more": "x"}) + "\n" for number in range(COUNT)]
    if request.param == "*.jsonl":
        (tmp_path / "a.jsonl").write_text("".join(lines[:40]))
        (tmp_path / "b.jsonl").write_text("".join(lines[40:]))
    else:
        opened = gzip.open if request.param.endswith(".gz") else open
        with opened(tmp_path / request.param, "wt") as file:
            file.writelines(lines)
    return str(tmp_path / request.param)


@pytest.mark.parametrize(
    "order",
    [
        list(range(15)),
        list(reversed(range(15))),
        [3, 4, 4, 8, 2, 14, 0, 13, 14],
        [0, 5, 6, 14],
    ],
    ids=["forward", "backward", "mixed", "with gaps"],
)
def test_chunks_are_read_again_in_any_order(path, order):
    source = open_source(path)
    starts = [found.start for found in source.chunks(SIZE, columns=["n"])]
    reader = ChunkReader(source, ["n"])
    for number in order:
        expected = [{"n": row} for row in range(number * SIZE, min((number + 1) * SIZE, COUNT))]
        found = reader.read(starts[number], SIZE)
        assert found is not None
        assert (found.start, found.rows) == (starts[number], expected)


def test_chunks_may_have_different_sizes(path):
    source = open_source(path)
    reader = ChunkReader(source, ["n"])
    place, found = Position(), []
    for size in (7, 1, 30, 30, 5, 50):
        chunk = reader.read(place, size)
        assert chunk is not None
        assert chunk.start.row == len(found)
        found += [row["n"] for row in chunk.rows]
        place = chunk.after
    assert found == list(range(COUNT))
    assert reader.read(place, 5) is None


def test_a_chunk_beyond_the_end_has_no_rows(tmp_path):
    """The file has become shorter; whoever reads sees it by the number of rows."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"n": 1}\n')
    source = open_source(str(path))
    reader = ChunkReader(source, ["n"])
    first = reader.read(Position(), 1)
    assert first is not None
    assert first.rows == [{"n": 1}]
    assert reader.read(Position(1, 0, 9, 1), 1) is None
    assert reader.read(Position(2, 0, 18, 2), 1) is None


def test_consecutive_chunks_of_a_gzipped_file_decompress_it_once(tmp_path):
    path = tmp_path / "in.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(f'{{"n": {number}, "more": "{number % 977:0300d}"}}\n' for number in range(40_000))
    source = open_source(str(path))
    began = time.process_time()
    starts = [found.start for found in source.chunks(200, columns=["n"])]
    once = time.process_time() - began
    reader = ChunkReader(source, ["n"])
    began = time.process_time()
    assert sum(len(reader.read(start, 200).rows) for start in starts[::2]) == 20_000
    again = time.process_time() - began
    assert again < 5 * once  # from the beginning each time, it is a hundred times as much
