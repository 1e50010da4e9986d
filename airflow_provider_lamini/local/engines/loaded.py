"""Models in llama.cpp, each with the adapters that were tuned on it; loaded, exchanged and freed while they serve."""

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
    from airflow_provider_lamini.local.engines.llama_server import LlamaServer, Written


@dataclass(frozen=True, slots=True)
class Voice:
    """A loaded model with one of its adapters, or with none.

    :param server: the model
    :param adapter: number of the adapter among the model's
    """

    server: LlamaServer
    adapter: int | None

    @property
    def is_tuned(self) -> bool:
        """Whether it writes with an adapter."""
        return self.adapter is not None

    def write(self, body: dict[str, Json], on_text: OnText | None) -> Written:
        """Generate a text, see :meth:`LlamaServer.write`."""
        return self.server.write(body, on_text, self.adapter)

    def choose(self, prompt: str, choices: list[str], temperature: float) -> tuple[int, int, int]:
        """Continue a prompt with one of some texts, see :meth:`LlamaServer.choose`."""
        return self.server.choose(prompt, choices, temperature, self.adapter)

    def prompt_of(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation as the text that the model continues."""
        return self.server.prompt_of(messages)


class _Loaded:
    """A model in memory, and how many requests use it.

    :param server: the model
    :param adapters: the adapters that it was loaded with, in their order
    """

    def __init__(self, server: LlamaServer, adapters: list[Adapter]) -> None:
        self.server = server
        self.adapters = adapters
        self.users = 0
        self.is_retired = False


class LoadedModels:
    """Models by name; each is loaded when it is first used.

    llama.cpp takes adapters only when it loads a model. A model that gets one is loaded a second time with it; requests
    go to the second from then on, and the first is freed when the last request that uses it has ended: none waits,
    none is lost, and for a moment the model's working memory is needed twice.

    :param paths: served name to GGUF file
    :param load: loads a file with adapters
    """

    def __init__(self, paths: Mapping[str, Path], load: Callable[[Path, list[Path]], LlamaServer]) -> None:
        self._paths = dict(paths)
        self._load = load
        self._adapters: dict[str, Adapter] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._closed = False

    def names(self) -> list[str]:
        """The served names, those of adapters last."""
        with self._lock:
            return [*self._paths, *self._adapters]

    def file_of(self, name: str) -> Path | None:
        """The file of a model that is no adapter."""
        return self._paths.get(name)

    def load(self, name: str) -> None:
        """Load a model, if it is not.

        :raises EngineUnavailable: it cannot be loaded, or all was closed
        """
        if name not in self._loaded:
            with self._changing:
                if name not in self._loaded:
                    self._exchange(name, [one for one in self._adapters.values() if one.base == name])

    @contextmanager
    def voice(self, name: str) -> Iterator[Voice]:
        """Use a model; it is not freed meanwhile.

        :param name: its name, or an adapter's
        :raises ModelNotFound: there is none
        :raises EngineUnavailable: it cannot be loaded, or all was closed
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
            if loaded is None:  # it was forgotten meanwhile
                raise ModelNotFound(name, [*self._paths, *self._adapters])
            number = None if adapter is None else loaded.adapters.index(adapter)
            loaded.users += 1
        try:
            yield Voice(loaded.server, number)
        finally:
            with self._lock:
                loaded.users -= 1
                is_last = loaded.is_retired and not loaded.users
            if is_last:
                loaded.server.close()

    def adapt(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve adapters; each model gets all of its in one go.

        :param adapters: what to serve; one of a name that is served already replaces it
        :returns: what went wrong, by the adapter's name; the others are served
        """
        failures: dict[str, EngineError] = {}
        with self._changing:
            for base in dict.fromkeys(one.base for one in adapters):
                mine = [one for one in adapters if one.base == base]
                try:
                    self._add(base, mine)
                except EngineError as error:
                    if len(mine) == 1:
                        failures[mine[0].name] = error
                        continue
                    for one in mine:
                        # To find the one that cannot be loaded.
                        try:
                            self._add(base, [one])
                        except EngineError as alone:
                            failures[one.name] = alone
        return failures

    def forget(self, name: str) -> None:
        """Serve an adapter no longer; it is freed when its model is loaded again.

        :raises ModelNotFound: there is no such adapter
        """
        with self._lock:
            if self._adapters.pop(name, None) is None:
                raise ModelNotFound(name, list(self._adapters))

    def close(self) -> None:
        """Free everything."""
        with self._changing, self._lock:
            self._closed = True
            loaded = list(self._loaded.values())
        for one in loaded:
            one.server.close()

    def _add(self, base: str, adapters: list[Adapter]) -> None:
        if base not in self._paths:
            raise ModelNotFound(base, list(self._paths))
        for one in adapters:
            if one.name in self._paths:
                raise EngineError(f"{one.name!r} is the name of another model.")
        names = {one.name for one in adapters}
        kept = [one for one in self._adapters.values() if one.base == base and one.name not in names]
        self._exchange(base, [*kept, *adapters])

    def _exchange(self, base: str, adapters: list[Adapter]) -> None:
        """Load a model with adapters in the place of the one that serves now, if there is one."""
        if self._closed:
            raise EngineUnavailable("The engine is closed.")
        server = self._load(self._paths[base], [one.path for one in adapters])
        with self._lock:
            before = self._loaded.get(base)
            self._loaded[base] = _Loaded(server, adapters)
            self._adapters |= {one.name: one for one in adapters}
            is_free = False
            if before is not None:
                before.is_retired = True
                is_free = not before.users
        if before is not None and is_free:
            before.server.close()
