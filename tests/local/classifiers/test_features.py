"""Tests for the feature vectors of texts."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_lamini.local.classifiers.features import MAX_PARTS, features
from airflow_provider_lamini.local.inference import EMBEDDING_BATCH_SIZE
from tests.support.upstream import vector_for


class Engine:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def embed(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(texts)
        return [vector_for(text) for text in texts]


def test_the_features_of_one_sentence_are_its_vector() -> None:
    engine = Engine()
    [vector] = features(["One sentence."], engine.embed)
    assert vector == pytest.approx(vector_for("One sentence."))
    assert engine.batches == [["One sentence."]]


def test_the_mean_of_the_sentences_counts_as_much_as_the_whole_text() -> None:
    engine = Engine()
    text = "One. Two. Three."
    [vector] = features([text], engine.embed)
    mean = np.mean([vector_for(part) for part in ("One.", "Two.", "Three.")], axis=0)
    both = np.asarray(vector_for(text)) + mean / np.linalg.norm(mean)
    assert vector == pytest.approx(both / np.linalg.norm(both))
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_batches_and_parts_of_a_long_text_are_bounded() -> None:
    engine = Engine()
    long = " ".join(f"Sentence {number}." for number in range(500))
    found = features([long, "", "Short."], engine.embed)
    assert found.shape == (3, len(vector_for("")))
    assert all(len(texts) <= EMBEDDING_BATCH_SIZE for texts in engine.batches)
    assert sum(map(len, engine.batches)) <= 1 + MAX_PARTS + 2
