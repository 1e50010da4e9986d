"""The vector that a classifier sees of a text."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_lamini.local.classifiers.features import SENTENCES, features
from airflow_provider_lamini.local.inference import EMBEDDING_BATCH_SIZE
from tests.support.upstream import vector_for


class Engine:
    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [vector_for(text) for text in texts]


def test_a_sentence_is_its_own_vector() -> None:
    engine = Engine()
    [vector] = features(["One sentence."], engine.embed)
    assert vector == pytest.approx(vector_for("One sentence."))
    assert engine.asked == [["One sentence."]]


def test_several_sentences_count_as_much_as_the_whole() -> None:
    engine = Engine()
    text = "One. Two. Three."
    [vector] = features([text], engine.embed)
    mean = np.mean([vector_for(part) for part in ("One.", "Two.", "Three.")], axis=0)
    both = np.asarray(vector_for(text)) + mean / np.linalg.norm(mean)
    assert vector == pytest.approx(both / np.linalg.norm(both))
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_the_engine_gets_few_texts_at_a_time_and_a_long_text_has_few_parts() -> None:
    engine = Engine()
    long = " ".join(f"Sentence {number}." for number in range(500))
    found = features([long, "", "Short."], engine.embed)
    assert found.shape == (3, len(vector_for("")))
    assert all(len(texts) <= EMBEDDING_BATCH_SIZE for texts in engine.asked)
    assert sum(map(len, engine.asked)) <= 1 + SENTENCES + 2
