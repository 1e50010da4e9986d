"""Opens the engines that a platform is started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.local.models.catalogue import TEXT, VECTORS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine, LlamaTextEngine
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine
    from airflow_provider_lamini.local.models.store import ModelStore


def open_text_engine(store: ModelStore, more: Mapping[str, Path] | None = None) -> LlamaTextEngine:
    """Serve the catalogue's text model, what else was pulled, and files that the user names.

    :param store: where the models lie
    :param more: served name to GGUF file
    :raises ModelMissing: the catalogue's text model is not in the cache
    :raises EngineUnavailable: a file cannot be loaded
    """
    from airflow_provider_lamini.local.engines.llama import LlamaTextEngine

    models = {TEXT.name: store.require(TEXT.name)}
    for status in store.status(verify=False):
        if status.use == "text" and status.present:
            models[status.name] = status.path
    return LlamaTextEngine(models | dict(more or {}), dict.fromkeys(TEXT.aliases, TEXT.name))


def open_embedding_engine(store: ModelStore) -> LlamaEmbeddingEngine:
    """Serve the catalogue's embedding model.

    :param store: where the models lie
    :raises ModelMissing: it is not in the cache
    :raises EngineUnavailable: it cannot be loaded
    """
    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine

    path = store.require(VECTORS.name)
    return LlamaEmbeddingEngine(VECTORS.name, path, path.with_name("tokenizer.json"), VECTORS.aliases)


def open_upstream(url: str, key: str | None = None) -> UpstreamEngine:
    """Take text and vectors from an OpenAI-compatible server.

    :param url: base URL, with or without ``/v1``
    :param key: bearer key, if the server wants one
    :raises ValueError: the URL is none
    """
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine

    return UpstreamEngine(url, key)
