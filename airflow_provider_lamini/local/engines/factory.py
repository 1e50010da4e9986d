"""Factory functions for the engines that the platform starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.local.models.catalogue import TEXT, VECTORS

if TYPE_CHECKING:
    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine, LlamaTextEngine
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine
    from airflow_provider_lamini.local.models.store import ModelStore


def open_text_engine(store: ModelStore) -> LlamaTextEngine:
    """Open an engine for the catalogue's text model and all other pulled text models.

    :param store: the model cache
    :raises ModelMissing: the catalogue's text model is not in the cache
    :raises EngineUnavailable: a file cannot be loaded
    """
    from airflow_provider_lamini.local.engines.llama import LlamaTextEngine

    models = {TEXT.name: store.require(TEXT.name)}
    for status in store.status(verify=False):
        if status.use == "text" and status.present:
            models[status.name] = status.path
    return LlamaTextEngine(models, dict.fromkeys(TEXT.aliases, TEXT.name))


def open_embedding_engine(store: ModelStore) -> LlamaEmbeddingEngine:
    """Open an engine for the catalogue's embedding model.

    :param store: the model cache
    :raises ModelMissing: the model is not in the cache
    :raises EngineUnavailable: the model cannot be loaded
    """
    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine

    path = store.require(VECTORS.name)
    return LlamaEmbeddingEngine(VECTORS.name, path, path.with_name("tokenizer.json"), VECTORS.aliases)


def open_upstream(url: str, key: str | None = None) -> UpstreamEngine:
    """Open an engine that forwards to an OpenAI-compatible server.

    :param url: base URL, with or without ``/v1``
    :param key: bearer key, if the server requires one
    :raises ValueError: the URL is invalid
    """
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine

    return UpstreamEngine(url, key)
