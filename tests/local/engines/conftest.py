"""The real models, from the user's cache, pulled first where they are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.opening import open_embedding_engine, open_text_engine
from airflow_provider_lamini.local.models.catalogue import CATALOGUE
from airflow_provider_lamini.local.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine, LlamaTextEngine


@pytest.fixture(scope="session")
def store() -> ModelStore:
    """The cache, with the catalogue's models in it."""
    store = ModelStore()
    for model in CATALOGUE:
        store.pull(model.name)
    return store


@pytest.fixture(scope="session")
def texts(store: ModelStore) -> Iterator[LlamaTextEngine]:
    """The real text engine."""
    engine = open_text_engine(store)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vectors(store: ModelStore) -> Iterator[LlamaEmbeddingEngine]:
    """The real embedding engine."""
    engine = open_embedding_engine(store)
    yield engine
    engine.close()
