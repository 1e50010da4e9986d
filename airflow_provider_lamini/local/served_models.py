"""The text models that are served: several engines behind one interface, with models added at runtime."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.engines.base import (
    Adapter,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    SupportsAdapters,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.engines.base import (
        GenerationRequest,
        GenerationResult,
        OnText,
        TextEngine,
    )


class ServedModels:
    """Routes each request to the engine that serves its model.

    :param engine: the first engine; it also decides how many requests run in parallel
    """

    def __init__(self, engine: TextEngine) -> None:
        self._lock = threading.Lock()
        self._engines = [engine]
        self._adapters: frozenset[str] = frozenset()

    @property
    def parallel(self) -> int:
        """Number of requests worth running in parallel."""
        return self._engines[0].parallel

    def add(self, engine: TextEngine) -> None:
        """Also serve the models of another engine."""
        with self._lock:
            self._engines = [*self._engines, engine]

    def models(self) -> list[str]:
        """Names of the served models."""
        return [name for engine in self._engines for name in engine.models()]

    def base_models(self) -> list[str]:
        """Names of the served models that are not tuned."""
        return [name for name in self.models() if name not in self._adapters]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Generate one text with the engine that serves the model.

        :param request: what to generate
        :param on_text: called with each new piece of the text
        :raises ModelNotFound: no engine serves the model
        """
        engines = self._engines
        for engine in engines:
            if len(engines) == 1 or request.model_name in engine.models():
                return engine.generate(request, on_text)
        raise ModelNotFound(request.model_name, self.models())

    def model_file(self, model_name: str) -> Path:
        """Return the GGUF file of a model that can be tuned.

        :param model_name: its served name
        :raises ModelNotFound: no engine serves the model
        :raises EngineUnavailable: the engine does not expose its weights, or the model is itself a tuned one
        """
        return self._adapting(model_name).model_file(model_name)

    @property
    def can_tune(self) -> bool:
        """Whether an engine exposes the weights of its models."""
        return any(isinstance(engine, SupportsAdapters) for engine in self._engines)

    def add_adapter(self, name: str, base: str, adapter: Path) -> None:
        """Serve a tuned model alongside its base model. Running requests are not interrupted.

        :param name: name to serve it under; a tuned model of this name is replaced
        :param base: served name of the base model
        :param adapter: the LoRA adapter, a GGUF file
        :raises ModelNotFound: no engine serves the base model
        :raises EngineUnavailable: the engine does not support adapters, or the file cannot be loaded
        :raises EngineError: another model already has this name
        """
        for error in self.add_adapters([Adapter(name=name, base=base, path=adapter)]).values():
            raise error

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve tuned models, loading each base model only once.

        :param adapters: the tuned models
        :return: the error of each model that cannot be served, by name; all others are served
        """
        failures: dict[str, EngineError] = {}
        by_engine: list[tuple[SupportsAdapters, list[Adapter]]] = []
        for adapter in adapters:
            try:
                engine = self._adapting(adapter.base)
                self._check_name(adapter.name, engine)
            except EngineError as error:
                failures[adapter.name] = error
                continue
            group = next((group for known, group in by_engine if known is engine), None)
            if group is None:
                by_engine.append((engine, [adapter]))
            else:
                group.append(adapter)
        for engine, group in by_engine:
            failures |= engine.add_adapters(group)
        with self._lock:
            self._adapters |= {adapter.name for adapter in adapters if adapter.name not in failures}
        return failures

    def remove_adapter(self, name: str) -> None:
        """Stop serving a tuned model.

        :param name: its name
        :raises ModelNotFound: no tuned model of this name is served
        """
        self._adapting(name).remove_adapter(name)
        with self._lock:
            self._adapters -= {name}

    def _adapting(self, model_name: str) -> SupportsAdapters:
        for engine in self._engines:
            if model_name in engine.models():
                if isinstance(engine, SupportsAdapters):
                    return engine
                raise EngineUnavailable(
                    f"Model {model_name!r} is served by an upstream engine, which cannot load adapters. To tune a "
                    "model that the platform runs itself, start it without --upstream."
                )
        raise ModelNotFound(model_name, self.models())

    def _check_name(self, name: str, engine: object) -> None:
        if any(name in other.models() for other in self._engines if other is not engine):
            raise EngineError(f"Cannot serve {name!r}: it is already the name of another model.")

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            engine.close()
