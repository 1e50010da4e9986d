"""Vectors of the converted models, held against a forward pass in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
import tokenizers

from airflow_provider_lamini.local.engines.base import EngineUnavailable, ModelNotFound
from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine
from airflow_provider_lamini.local.models.catalogue import VECTORS
from airflow_provider_lamini.local.models.convert import convert_bert
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


def test_a_bert_that_was_converted_computes_what_it_did_before(tmp_path: Path) -> None:
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


def test_half_precision_changes_the_same_weights_the_same_way(tmp_path: Path) -> None:
    """The file is the same, byte by byte, however often it is made."""
    tiny_bert(tmp_path)
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name[:3]).mkdir()
        convert_bert(
            tmp_path / "model.safetensors", tmp_path / "tokenizer.json", tmp_path / name[:3] / "x.gguf"
        )
    assert (tmp_path / "one/x.gguf").read_bytes() == (tmp_path / "two/x.gguf").read_bytes()


def weights_of(path: Path) -> Arrays:
    """What a converted model holds, by the names that it had before."""
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
        at = f"encoder.layer.{layer}"
        parts += [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        parts += [f"{at}.attention.output.dense", f"{at}.attention.output.LayerNorm"]
        parts += [f"{at}.intermediate.dense", f"{at}.output.dense", f"{at}.output.LayerNorm"]
    before = {
        names.get_name(part + end, try_suffixes=(".weight", ".bias")): part + end
        for part in parts
        for end in (".weight", ".bias")
    }
    return {before[tensor.name]: np.asarray(tensor.data, dtype=np.float32) for tensor in reader.tensors}


@pytest.mark.models
def test_the_real_model_agrees_with_the_reference(vectors: LlamaEmbeddingEngine, store: ModelStore) -> None:
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
def test_texts_that_mean_the_same_lie_close(vectors: LlamaEmbeddingEngine) -> None:
    bill, refund, cat = np.array(
        vectors.embed(
            ["I was billed twice.", "My card was charged two times.", "Cats sleep a lot."], "all-MiniLM-L6-v2"
        )
    )
    assert bill @ refund > 0.5
    assert bill @ cat < 0.3


@pytest.mark.models
def test_a_text_is_cut_where_the_reference_cuts_it(vectors: LlamaEmbeddingEngine) -> None:
    short, long = vectors.embed(["word " * 300, "word " * 300 + "and something else entirely"], VECTORS.name)
    assert np.dot(short, long) == pytest.approx(1, abs=1e-4)


@pytest.mark.models
def test_many_texts_come_back_in_their_order(vectors: LlamaEmbeddingEngine) -> None:
    texts = [f"ticket number {number}" for number in range(150)]
    together = vectors.embed(texts, VECTORS.name)
    assert len(together) == 150
    for place in (0, 63, 64, 149):
        assert np.dot(together[place], vectors.embed([texts[place]], VECTORS.name)[0]) > 0.9999


@pytest.mark.models
def test_no_texts_give_no_vectors(vectors: LlamaEmbeddingEngine) -> None:
    assert vectors.embed([], VECTORS.name) == []


@pytest.mark.models
def test_a_model_that_is_not_served_is_refused(vectors: LlamaEmbeddingEngine) -> None:
    with pytest.raises(ModelNotFound, match="served: sentence-transformers/all-MiniLM-L6-v2"):
        vectors.embed(["x"], "other")


@pytest.mark.models
def test_a_closed_engine_says_so(store: ModelStore) -> None:
    path = store.require(VECTORS.name)
    engine = LlamaEmbeddingEngine("v", path, path.with_name("tokenizer.json"))
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.embed(["x"], "v")
