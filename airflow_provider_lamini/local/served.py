"""Several text engines as one, to which more can be added while it serves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.engines.base import ModelNotFound

if TYPE_CHECKING:
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

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines:
            engine.close()
