"""Tests for reading safetensors and tokenizers; the embedding tests cover the converted models."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.local.models.conversion import convert_bert, read_safetensors, read_vocabulary
from airflow_provider_lamini.local.models.files import UnreadableModel
from tests.support.tiny_bert import write_safetensors

if TYPE_CHECKING:
    from pathlib import Path


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1.5, -2.25], dtype=np.float16),
        "c": np.array([[7]], dtype=np.int64),
    }
    write_safetensors(tmp_path / "x", arrays)
    read = read_safetensors(tmp_path / "x")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def file_with_header(**changes: object) -> bytes:
    """Return a file with one array and a wrong header entry for it."""
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]" + bytes(8),
        file_with_header(dtype="BF16"),
        file_with_header(shape=[3]),
        file_with_header(shape=[-2]),
        file_with_header(data_offsets=[0, 80]),
        file_with_header(data_offsets=[0, 7]),
        file_with_header(data_offsets=[0]),
    ],
)
def test_a_damaged_file_raises_unreadable_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableModel, match="x is not a supported safetensors file"):
        read_safetensors(tmp_path / "x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_unreadable_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableModel):
        read_safetensors(tmp_path / "x")


@pytest.mark.parametrize(
    "content", ["", "{}", '{"model": {"vocab": []}}', '{"model": {"vocab": {"a": 0, "b": 2}}}']
)
def test_a_tokenizer_without_a_complete_vocabulary_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UnreadableModel, match=r"tokenizer\.json"):
        read_vocabulary(tmp_path / "tokenizer.json")


def test_weights_of_another_architecture_are_rejected(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "weights", {"lm_head.weight": np.zeros((2, 2), dtype=np.float32)})
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"[UNK]": 0}}}')
    with pytest.raises(UnreadableModel, match="weights is not a BERT model"):
        convert_bert(tmp_path / "weights", tmp_path / "tokenizer.json", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
