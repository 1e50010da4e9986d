"""Opens the platform that the command serves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.engines.factory import (
    open_embedding_engine,
    open_text_engine,
    open_upstream,
)
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.server import ServeError

if TYPE_CHECKING:
    from airflow_provider_lamini.local.engines.base import TextEngine
    from airflow_provider_lamini.local.server import ServeOptions

UPSTREAM_KEY_VARIABLE: Final = "LAMINI_LOCAL_UPSTREAM_KEY"


def open_platform(options: ServeOptions) -> Platform:
    """Open the engines and what outlives the process.

    :param options: how the platform is served
    :raises ServeError: the upstream's URL is none
    :raises FolderInUseError: another platform works with the data folder
    :raises ModelError: a model is missing
    :raises EngineError: a model cannot be loaded, or the upstream does not answer
    """
    if options.upstream is not None:
        try:
            upstream = open_upstream(options.upstream, os.environ.get(UPSTREAM_KEY_VARIABLE))
        except ValueError as error:
            raise ServeError(str(error)) from None
        return Platform(options.data, upstream, upstream, upload_base=options.upload_base)

    from airflow_provider_lamini.local.engines.llama import LlamaTextEngine

    models = ModelStore()

    def open_text(name: str) -> TextEngine:
        return LlamaTextEngine({name: models.require(name)})

    texts, vectors = open_text_engine(models), open_embedding_engine(models)
    return Platform(options.data, texts, vectors, models, open_text, upload_base=options.upload_base)
