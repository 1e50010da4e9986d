"""Several text engines as one, to which more can be added while it serves."""

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

    from airflow_provider_lamini.local.engines.base import Generation, GenerationRequest, OnText, TextEngine


class ServedTexts:
    """Sends each request to the engine that serves its model.

    :param first: the engine to begin with; how many requests run at once is its word
    """

    def __init__(self, first: TextEngine) -> None:
        self._lock = threading.Lock()
        self._engines = [first]

    @property
    def parallel(self) -> int:
        """How many requests run at once usefully."""
        return self._engines[0].parallel

    def add(self, engine: TextEngine) -> None:
        """Serve another engine's models too."""
        with self._lock:
            self._engines = [*self._engines, engine]

    def models(self) -> list[str]:
        """The names that are served."""
        return [name for engine in self._engines for name in engine.models()]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Generate one text with the engine that serves the model.

        :param request: what to generate
        :param on_text: takes each new piece
        :raises ModelNotFound: no engine serves the model
        """
        engines = self._engines
        for engine in engines:
            if len(engines) == 1 or request.model_name in engine.models():
                return engine.generate(request, on_text)
        raise ModelNotFound(request.model_name, self.models())

    def weights(self, model_name: str) -> Path:
        """The GGUF file of a model that can be trained on.

        :param model_name: its served name
        :raises ModelNotFound: no engine serves the model
        :raises EngineUnavailable: the engine keeps its models to itself, or the model is itself a tuned one
        """
        return self._adapting(model_name).model_file(model_name)

    def adapt(self, name: str, base: str, adapter: Path) -> None:
        """Serve a tuned model next to the model that it is based on; what runs meanwhile goes on.

        :param name: the name to serve it under; where a tuned model has it, that is replaced
        :param base: the served name of the model that was tuned
        :param adapter: the LoRA, a GGUF file
        :raises ModelNotFound: no engine serves the base model
        :raises EngineUnavailable: the engine takes no adapters, or the file cannot be loaded
        :raises EngineError: another model has the name
        """
        for error in self.adapt_all([Adapter(name=name, base=base, path=adapter)]).values():
            raise error

    def adapt_all(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve tuned models, each base model loaded once for all of its own.

        :param adapters: what to serve
        :returns: what went wrong, by name; the others are served
        """
        failures: dict[str, EngineError] = {}
        tasks: list[tuple[SupportsAdapters, list[Adapter]]] = []
        for adapter in adapters:
            try:
                engine = self._adapting(adapter.base)
                self._check_name(adapter.name, engine)
            except EngineError as error:
                failures[adapter.name] = error
                continue
            mine = next((mine for one, mine in tasks if one is engine), None)
            if mine is None:
                tasks.append((engine, [adapter]))
            else:
                mine.append(adapter)
        for engine, mine in tasks:
            failures |= engine.add_adapters(mine)
        return failures

    def forget(self, name: str) -> None:
        """Serve a tuned model no longer.

        :param name: its name
        :raises ModelNotFound: no such tuned model is served
        """
        self._adapting(name).remove_adapter(name)

    def _adapting(self, model_name: str) -> SupportsAdapters:
        for engine in self._engines:
            if model_name in engine.models():
                if isinstance(engine, SupportsAdapters):
                    return engine
                raise EngineUnavailable(
                    f"Model {model_name!r} is served by an upstream engine, which this platform gives no adapters: "
                    "tune a model that the platform runs itself, so start it without --upstream."
                )
        raise ModelNotFound(model_name, self.models())

    def _check_name(self, name: str, engine: object) -> None:
        if any(name in other.models() for other in self._engines if other is not engine):
            raise EngineError(f"{name!r} is the name of another model.")

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            engine.close()
