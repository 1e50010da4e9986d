"""Tests for embeddings of converted models, compared with a reference forward pass in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
import tokenizers

from airflow_provider_lamini.local.engines.base import EngineUnavailable, ModelNotFound
from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine
from airflow_provider_lamini.local.models.catalogue import VECTORS
from airflow_provider_lamini.local.models.conversion import convert_bert
from tests.support.tiny_bert import Arrays, forward, tiny_bert

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.models.store import ModelStore

TEXTS = [
    "The parcel is late, where is my invoice?",
    "I was charged twice, please refund.",
    "",
    "naïve café, Łazienka, 東京 [MASK]",
    "word " * 400,
]


def test_a_converted_bert_computes_the_same_vectors_as_the_original(tmp_path: Path) -> None:
    weights = tiny_bert(tmp_path)
    convert_bert(tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / "tiny.gguf")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    engine = LlamaEmbeddingEngine("tiny", tmp_path / "tiny.gguf", tmp_path / "tokenizer.json")
    texts = ["The parcel is late, where?", "my invoices was paided twice", "", "unheard of", "the " * 600]
    vectors = engine.embed(texts, "tiny")
    engine.close()
    for text, vector in zip(texts, vectors, strict=True):
        reference = forward(weights, tokenizer.encode(text).ids)
        assert np.dot(vector, reference) > 0.9999, text[:40]


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    """Two conversions of the same model are identical byte for byte."""
    tiny_bert(tmp_path)
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name[:3]).mkdir()
        convert_bert(
            tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / name[:3] / "x.gguf"
        )
    assert (tmp_path / "one/x.gguf").read_bytes() == (tmp_path / "two/x.gguf").read_bytes()


def weights_of(path: Path) -> Arrays:
    """Read the weights of a converted model, by their original names."""
    reader = gguf.GGUFReader(path)
    layers = int(reader.fields["bert.block_count"].contents())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    parts = [
        "embeddings.word_embeddings",
        "embeddings.position_embeddings",
        "embeddings.token_type_embeddings",
        "embeddings.LayerNorm",
    ]
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        parts += [f"{prefix}.attention.self.{name}" for name in ("query", "key", "value")]
        parts += [f"{prefix}.attention.output.dense", f"{prefix}.attention.output.LayerNorm"]
        parts += [f"{prefix}.intermediate.dense", f"{prefix}.output.dense", f"{prefix}.output.LayerNorm"]
    originals = {
        names.get_name(part + suffix, try_suffixes=(".weight", ".bias")): part + suffix
        for part in parts
        for suffix in (".weight", ".bias")
    }
    return {originals[tensor.name]: np.asarray(tensor.data, dtype=np.float32) for tensor in reader.tensors}


@pytest.mark.models
def test_the_real_model_matches_the_reference(vectors: LlamaEmbeddingEngine, store: ModelStore) -> None:
    path = store.require(VECTORS.name)
    weights = weights_of(path)
    tokenizer = tokenizers.Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    for text, vector in zip(TEXTS, vectors.embed(TEXTS, VECTORS.name), strict=True):
        assert len(vector) == 384
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)
        assert np.dot(vector, forward(weights, tokenizer.encode(text).ids)) > 0.999, text[:40]


@pytest.mark.models
def test_texts_with_the_same_meaning_have_similar_vectors(vectors: LlamaEmbeddingEngine) -> None:
    bill, charge, cat = np.array(
        vectors.embed(
            ["I was billed twice.", "My card was charged two times.", "Cats sleep a lot."], "all-MiniLM-L6-v2"
        )
    )
    assert bill @ charge > 0.5
    assert bill @ cat < 0.3


@pytest.mark.models
def test_a_long_text_is_truncated_where_the_reference_truncates_it(vectors: LlamaEmbeddingEngine) -> None:
    short, long = vectors.embed(["word " * 300, "word " * 300 + "and something else entirely"], VECTORS.name)
    assert np.dot(short, long) == pytest.approx(1, abs=1e-4)


@pytest.mark.models
def test_vectors_of_many_texts_are_in_input_order(vectors: LlamaEmbeddingEngine) -> None:
    texts = [f"ticket number {number}" for number in range(150)]
    found = vectors.embed(texts, VECTORS.name)
    assert len(found) == 150
    for index in (0, 63, 64, 149):
        assert np.dot(found[index], vectors.embed([texts[index]], VECTORS.name)[0]) > 0.9999


@pytest.mark.models
def test_no_texts_return_no_vectors(vectors: LlamaEmbeddingEngine) -> None:
    assert vectors.embed([], VECTORS.name) == []


@pytest.mark.models
def test_a_model_that_is_not_served_raises_model_not_found(vectors: LlamaEmbeddingEngine) -> None:
    with pytest.raises(ModelNotFound, match="available models: sentence-transformers/all-MiniLM-L6-v2"):
        vectors.embed(["x"], "other")


@pytest.mark.models
def test_a_closed_engine_raises_engine_unavailable(store: ModelStore) -> None:
    path = store.require(VECTORS.name)
    engine = LlamaEmbeddingEngine("v", path, path.with_name("tokenizer.json"))
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.embed(["x"], "v")
