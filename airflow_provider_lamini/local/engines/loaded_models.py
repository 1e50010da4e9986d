"""Models loaded in llama.cpp with their LoRA adapters: loaded on first use, reloaded and freed without downtime."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.engines.base import (
    EngineError,
    EngineUnavailable,
    ModelNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import Adapter, OnText
    from airflow_provider_lamini.local.engines.llama_server import GeneratedText, LlamaServer


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """A loaded model for the duration of one request, with one of its adapters or none.

    :param server: the loaded model
    :param adapter: index of the adapter in the loaded model; ``None`` for the base model
    """

    server: LlamaServer
    adapter: int | None

    @property
    def is_tuned(self) -> bool:
        """Whether an adapter is used."""
        return self.adapter is not None

    def complete(self, body: dict[str, Json], on_text: OnText | None) -> GeneratedText:
        """Generate a text; arguments are those of :meth:`LlamaServer.complete`."""
        return self.server.complete(body, on_text, self.adapter)

    def choose(self, prompt: str, choices: list[str], sampling: dict[str, Json]) -> tuple[int, int, int]:
        """Continue a prompt with one of several texts; arguments are those of :meth:`LlamaServer.choose`."""
        return self.server.choose(prompt, choices, sampling, self.adapter)

    def apply_template(self, messages: list[dict[str, Json]]) -> str:
        """Render a conversation with the model's chat template."""
        return self.server.apply_template(messages)


class _LoadedModel:
    """A model in memory, with a count of the requests that use it.

    :param server: the model
    :param adapters: the adapters that it was loaded with, in order
    """

    def __init__(self, server: LlamaServer, adapters: list[Adapter]) -> None:
        self.server = server
        self.adapters = adapters
        self.users = 0
        self.is_retired = False


class LoadedModels:
    """Models by name; each is loaded on first use.

    llama.cpp accepts adapters only while it loads a model. To add an adapter, the model is therefore loaded a second
    time with all its adapters. New requests use the new instance; the old one is freed when its last request has
    ended. No request waits or fails, but for a moment the model needs its working memory twice.

    :param paths: served name to GGUF file
    :param load: loads a GGUF file with adapter files
    """

    def __init__(self, paths: Mapping[str, Path], load: Callable[[Path, list[Path]], LlamaServer]) -> None:
        self._paths = dict(paths)
        self._load = load
        self._adapters: dict[str, Adapter] = {}
        self._loaded: dict[str, _LoadedModel] = {}
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._closed = False

    def names(self) -> list[str]:
        """Return the served names, adapters last."""
        with self._lock:
            return [*self._paths, *self._adapters]

    def path(self, name: str) -> Path | None:
        """Return the GGUF file of a base model; ``None`` for any other name."""
        return self._paths.get(name)

    def load(self, name: str) -> None:
        """Load a base model unless it is loaded.

        :raises EngineUnavailable: it cannot be loaded, or the engine is closed
        """
        if name not in self._loaded:
            with self._load_lock:
                if name not in self._loaded:
                    self._reload(
                        name, [adapter for adapter in self._adapters.values() if adapter.base == name]
                    )

    @contextmanager
    def use(self, name: str) -> Iterator[ModelHandle]:
        """Load a model if needed, and keep it in memory while the block runs.

        :param name: name of a base model or an adapter
        :raises ModelNotFound: the model is not served
        :raises EngineUnavailable: it cannot be loaded, or the engine is closed
        """
        with self._lock:
            adapter = self._adapters.get(name)
        self.load(name if adapter is None else adapter.base)
        with self._lock:
            adapter = self._adapters.get(name)
            base = name if adapter is None else adapter.base
            loaded = self._loaded.get(base)
            if self._closed:
                raise EngineUnavailable("The engine is closed.")
            if loaded is None:  # the adapter was removed in the meantime
                raise ModelNotFound(name, [*self._paths, *self._adapters])
            index = None if adapter is None else loaded.adapters.index(adapter)
            loaded.users += 1
        try:
            yield ModelHandle(loaded.server, index)
        finally:
            with self._lock:
                loaded.users -= 1
                is_unused = loaded.is_retired and not loaded.users
            if is_unused:
                loaded.server.close()

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Start to serve adapters; each base model is reloaded only once.

        :param adapters: the adapters; one with the name of a served adapter replaces it
        :return: errors by adapter name; all other adapters are served
        """
        failures: dict[str, EngineError] = {}
        with self._load_lock:
            for base in dict.fromkeys(adapter.base for adapter in adapters):
                batch = [adapter for adapter in adapters if adapter.base == base]
                try:
                    self._add(base, batch)
                except EngineError as error:
                    if len(batch) == 1:
                        failures[batch[0].name] = error
                        continue
                    for adapter in batch:
                        # Load them one by one to find out which one fails.
                        try:
                            self._add(base, [adapter])
                        except EngineError as single_error:
                            failures[adapter.name] = single_error
        return failures

    def remove_adapter(self, name: str) -> None:
        """Stop serving an adapter; its memory is freed the next time its base model is reloaded.

        :raises ModelNotFound: there is no such adapter
        """
        with self._lock:
            if self._adapters.pop(name, None) is None:
                raise ModelNotFound(name, list(self._adapters))

    def close(self) -> None:
        """Free all models."""
        with self._load_lock, self._lock:
            self._closed = True
            models = list(self._loaded.values())
        for model in models:
            model.server.close()

    def _add(self, base: str, adapters: list[Adapter]) -> None:
        if base not in self._paths:
            raise ModelNotFound(base, list(self._paths))
        for adapter in adapters:
            if adapter.name in self._paths:
                raise EngineError(f"{adapter.name!r} is the name of another model.")
        new_names = {adapter.name for adapter in adapters}
        others = [
            adapter
            for adapter in self._adapters.values()
            if adapter.base == base and adapter.name not in new_names
        ]
        self._reload(base, [*others, *adapters])

    def _reload(self, base: str, adapters: list[Adapter]) -> None:
        """Load a base model with adapters, and retire the instance that was loaded before, if any."""
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        server = self._load(self._paths[base], [adapter.path for adapter in adapters])
        with self._lock:
            previous = self._loaded.get(base)
            self._loaded[base] = _LoadedModel(server, adapters)
            self._adapters |= {adapter.name: adapter for adapter in adapters}
            is_unused = False
            if previous is not None:
                previous.is_retired = True
                is_unused = not previous.users
        if previous is not None and is_unused:
            previous.server.close()
