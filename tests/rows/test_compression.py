from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.sources.compression import compression_of, decompressed, recoded

DATA = "".join(f"line é {number}\n" for number in range(30_000)).encode()
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


def opened(content: bytes, name: str):
    return decompressed(io.BytesIO(content), name, "rows.jsonl")


@pytest.mark.parametrize("name", PACK)
def test_several_frames_are_one_file(name):
    packed = PACK[name](DATA) + PACK[name](b"tail\n")
    stream = opened(packed, name)
    assert stream.read() == DATA + b"tail\n"
    assert compression_of(packed[:6]) == name


@pytest.mark.parametrize("name", PACK)
def test_reading_goes_on_from_any_position(name):
    stream = opened(PACK[name](DATA), name)
    for position in (0, 70_000, 5, len(DATA) - 3, len(DATA)):
        stream.seek(position)
        assert stream.read(10) == DATA[position : position + 10]


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_an_error(name, keep):
    packed = PACK[name](DATA)
    with pytest.raises(InputError, match=f"rows.jsonl is incomplete: its {name} compression"):
        opened(packed[: int(len(packed) * keep)], name).read()


@pytest.mark.parametrize("name", PACK)
def test_a_file_that_is_not_compressed_is_an_error(name):
    with pytest.raises(InputError, match="damaged or truncated"):
        opened(b'{"prompt": "a"}\n', name).read()


@pytest.mark.parametrize("name", PACK)
def test_a_broken_connection_is_not_taken_for_damage(name):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise ConnectionResetError(104, "reset")

    with pytest.raises(ConnectionResetError):
        opened(PACK[name](DATA), name).__class__(Broken(), "x").read()


@pytest.mark.parametrize("name", PACK)
def test_memory_stays_small_whatever_the_ratio(name):
    import tracemalloc

    packed = PACK[name](bytes(40_000_000))
    stream = opened(packed, name)
    tracemalloc.start()
    total = 0
    while piece := stream.read(64 * 1024):
        total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 40_000_000
    assert peak < 25_000_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig"])
def test_another_encoding_is_read_as_utf_8(encoding):
    stream = recoded(io.BytesIO(DATA.decode().encode(encoding)), encoding, "rows.csv")
    assert stream.read() == DATA
    stream.seek(70_000)
    assert stream.read(10) == DATA[70_000:70_010]


def test_a_text_in_another_encoding_than_the_given_one_is_an_error():
    with pytest.raises(InputError, match=r"rows\.csv is not valid utf-16 text"):
        recoded(io.BytesIO(b"\xff\xfea"), "utf-16", "rows.csv").read()
