"""Fixtures for the real models, which are pulled into the user's cache if they are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.factory import open_embedding_engine, open_text_engine
from airflow_provider_lamini.local.models.catalogue import CATALOGUE
from airflow_provider_lamini.local.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine, LlamaTextEngine


@pytest.fixture(scope="session")
def store() -> ModelStore:
    """Model cache that contains every model of the catalogue."""
    store = ModelStore()
    for model in CATALOGUE:
        store.pull(model.name)
    return store


@pytest.fixture(scope="session")
def texts(store: ModelStore) -> Iterator[LlamaTextEngine]:
    """Text engine with the real model."""
    engine = open_text_engine(store)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vectors(store: ModelStore) -> Iterator[LlamaEmbeddingEngine]:
    """Embedding engine with the real model."""
    engine = open_embedding_engine(store)
    yield engine
    engine.close()
