"""The local platform in this process, whose trainer learns rows by heart, and takes its steps as a test says.

Everything else is real: endpoints, jobs, store, history, checkpoints' folders. What really learns needs torch, and has
tests of its own.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from airflow_provider_lamini.local.app import create_app
from airflow_provider_lamini.local.engines.base import EngineUnavailable, Generation, ModelNotFound
from airflow_provider_lamini.local.faults import Connections
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.server import bind, url_of
from airflow_provider_lamini.local.tuning.trainer import Step, TrainingFailed, TrainingUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.engines.base import Adapter, EngineError, GenerationRequest, OnText
    from airflow_provider_lamini.local.models.store import ModelStore
    from airflow_provider_lamini.local.tuning.trainer import Recipe

KEY = "a-key-for-tests"
BASE = "test/base"
OTHER_BASE = "test/without-a-file"
VECTORS = "sentence-transformers/all-MiniLM-L6-v2"
CHECKPOINT = "checkpoint.txt"


class ScriptedTrainer:
    """Takes a step whenever a test lets it.

    :ivar installed: whether what it needs is installed
    :ivar allowed: steps that it may take
    :ivar breaks_at: the step at which it fails, once
    :ivar recipes: what it was asked for, in order
    :ivar taken: every step that it took, in order
    """

    def __init__(self) -> None:
        self.installed = True
        self.allowed = 1_000_000
        self.breaks_at: int | None = None
        self.recipes: list[Recipe] = []
        self.taken: list[int] = []

    def check_available(self) -> None:
        """Return if training can be done."""
        if not self.installed:
            raise TrainingUnavailable("Nothing to train with is installed.")

    def train(self, recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
        """Take the steps after the last checkpoint."""
        self.recipes.append(recipe)
        checkpoint = recipe.folder / CHECKPOINT
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        for step in range(done + 1, recipe.max_steps + 1):
            while step > self.allowed:
                check()
                time.sleep(0.005)
            check()
            if step == self.breaks_at:
                self.breaks_at = None
                raise TrainingFailed("The training process died: out of luck.")
            self.taken.append(step)
            on_step(
                Step(
                    step=step,
                    total=recipe.max_steps,
                    loss=4.0 / step,
                    learning_rate=recipe.learning_rate,
                    seconds=2.0,
                )
            )
            if step % recipe.checkpoint_every == 0:
                checkpoint.write_text(str(step))
        adapter = recipe.folder / "adapter.gguf"
        rows = [json.loads(line) for line in recipe.rows.read_text().splitlines()]
        adapter.write_text(json.dumps({row["input"]: row["output"] for row in rows}))
        return adapter


class EchoEngine:
    """Says the prompt after the model's name; a tuned model knows the prompts that it has learnt."""

    parallel = 2

    def __init__(self, file: Path) -> None:
        self.file = file
        self.adapters: dict[str, dict[str, str]] = {}
        self.refuses: str | None = None

    def models(self) -> list[str]:
        """The names that are served."""
        return [BASE, OTHER_BASE, *self.adapters]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Say it."""
        if request.model_name not in self.models():
            raise ModelNotFound(request.model_name, self.models())
        prompt = request.prompt or (request.messages or [{}])[-1].get("content", "")
        learnt = self.adapters.get(request.model_name, {})
        text = learnt.get(prompt, f"{request.model_name}: {prompt}")
        if request.json_schema is not None:
            text = _fitted(request.json_schema, text)
        if on_text is not None:
            on_text(text)
        return Generation(text, "stop", 1, 1)

    def model_file(self, model_name: str) -> Path:
        """The file of a model."""
        if model_name != BASE:
            raise EngineUnavailable(f"{model_name} has no file.")
        return self.file

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve tuned models."""
        if self.refuses is not None:
            return {adapter.name: EngineUnavailable(self.refuses) for adapter in adapters}
        assert {adapter.base for adapter in adapters} <= {BASE}
        self.adapters |= {adapter.name: json.loads(adapter.path.read_text()) for adapter in adapters}
        return {}

    def remove_adapter(self, name: str) -> None:
        """Serve a tuned model no more."""
        del self.adapters[name]

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Vectors that mean nothing."""
        del model_name
        return [[1.0, 0.0] for _ in texts]

    def close(self) -> None:
        """Hold nothing."""


def _fitted(schema: dict[str, Any], text: str) -> str:
    """An object of one field, which is one of several texts: the one that is meant, or else the first."""
    ((name, field),) = schema["properties"].items()
    return json.dumps({name: text if text in field["enum"] else field["enum"][0]})


class VectorEngine(EchoEngine):
    """Makes vectors that mean nothing."""

    def models(self) -> list[str]:
        """The names that are served."""
        return [VECTORS]


class TunablePlatform:
    """A platform in this process.

    :param data: its folder
    :param trainer: its trainer
    :param models: the cache that it fetches further models into
    :ivar http: a client that sends the key
    """

    def __init__(self, data: Path, trainer: ScriptedTrainer, models: ModelStore | None = None) -> None:
        self.data = data
        self.trainer = trainer
        self.models = models
        self.engine: EchoEngine
        self.url = ""
        self.http = httpx.Client()
        self.platform: Platform

    def start(self) -> None:
        """Serve, and take up the jobs that live."""
        base = self.data.with_name("base.gguf")
        base.write_text("a model")
        self.engine = EchoEngine(base)
        self.platform = Platform(
            self.data,
            self.engine,
            VectorEngine(base),
            self.models,
            lambda _: EchoEngine(base),
            trainer=self.trainer,
        )
        listening = bind("127.0.0.1", 0)
        self.url = url_of(listening)
        config = uvicorn.Config(
            create_app(self.platform, KEY, Connections()), lifespan="off", log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        self._listening = listening
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=20, trust_env=False
        )
        self.platform.runner.resume()

    def stop(self) -> None:
        """End; jobs that live stay."""
        self.http.close()
        self.platform.runner.stop()
        self._server.should_exit = True
        self._thread.join(10)
        self._listening.close()
        self.platform.close()


@contextmanager
def tunable_platform(
    data: Path, trainer: ScriptedTrainer, models: ModelStore | None = None
) -> Iterator[TunablePlatform]:
    """Serve a platform while the block lasts.

    :param data: its folder
    :param trainer: its trainer
    :param models: the cache that it fetches further models into
    """
    data.parent.mkdir(exist_ok=True)
    platform = TunablePlatform(data, trainer, models)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()
