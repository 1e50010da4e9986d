"""A local platform in this process with a trainer that memorizes rows and whose steps a test controls.

Everything else is real: endpoints, jobs, store, history and checkpoint folders. The real trainer needs torch and has
its own tests.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from airflow_provider_lamini.local.app import create_app
from airflow_provider_lamini.local.engines.base import EngineUnavailable, GenerationResult, ModelNotFound
from airflow_provider_lamini.local.faults import Connections
from airflow_provider_lamini.local.platform import LocalPlatform
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
    """A trainer that waits before each step until a test allows it.

    :ivar installed: whether the packages for training count as installed
    :ivar allowed: the last step it may take
    :ivar breaks_at: the step at which it fails once
    :ivar recipes: the recipes it was called with, in order
    :ivar taken: all steps taken, in order
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what it did, and what it was told to do."""
        self.installed = True
        self.allowed = 1_000_000
        self.breaks_at: int | None = None
        self.recipes: list[Recipe] = []
        self.taken: list[int] = []

    def check_available(self) -> None:
        """Raise an error if ``installed`` is false."""
        if not self.installed:
            raise TrainingUnavailable("Install the packages for training.")

    def train(self, recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
        """Train from the last checkpoint, and write an adapter that maps each input to its output."""
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
            if step in recipe.adapter_steps():
                _write_adapter(recipe, step)
            if step % recipe.checkpoint_every == 0:
                checkpoint.write_text(str(step))
        return recipe.adapter_path(recipe.max_steps)


def _write_adapter(recipe: Recipe, step: int) -> None:
    """Write an adapter that knows as many rows as there were steps, and all of them after the last step."""
    rows = [json.loads(line) for line in recipe.rows.read_text().splitlines()]
    known = rows if step == recipe.max_steps else rows[:step]
    recipe.adapter_path(step).write_text(json.dumps({row["input"]: row["output"] for row in known}))


class EchoEngine:
    """An engine that echoes the prompt after the model's name. A tuned model returns the outputs it was trained on.

    :ivar refuses: error message with which adding an adapter fails; None to add it
    """

    parallel = 2

    def __init__(self, file: Path) -> None:
        self.file = file
        self.adapters: dict[str, dict[str, str]] = {}
        self.refuses: str | None = None

    def models(self) -> list[str]:
        """Return the served names."""
        return [BASE, OTHER_BASE, *self.adapters]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Return the trained output of the prompt, or echo the prompt."""
        if request.model_name not in self.models():
            raise ModelNotFound(request.model_name, self.models())
        prompt = request.prompt or str((request.messages or [{}])[-1].get("content", ""))
        learned = self.adapters.get(request.model_name, {})
        text = learned.get(prompt, f"{request.model_name}: {prompt}")
        if request.json_schema is not None:
            text = _as_object(request.json_schema, text)
        if on_text is not None:
            on_text(text)
        return GenerationResult(text, "stop", 1, 1)

    def model_file(self, model_name: str) -> Path:
        """Return the GGUF file of the base model."""
        if model_name != BASE:
            raise EngineUnavailable(f"{model_name} has no file.")
        return self.file

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve tuned models, unless ``refuses`` is set."""
        if self.refuses is not None:
            return {adapter.name: EngineUnavailable(self.refuses) for adapter in adapters}
        assert {adapter.base for adapter in adapters} <= {BASE}
        self.adapters |= {adapter.name: json.loads(adapter.path.read_text()) for adapter in adapters}
        return {}

    def remove_adapter(self, name: str) -> None:
        """Stop serving a tuned model."""
        del self.adapters[name]

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Return the same vector for every text."""
        del model_name
        return [[1.0, 0.0] for _ in texts]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _as_object(schema: dict[str, Any], text: str) -> str:
    """Return a JSON object with one enum field: the text if the enum has it, else the first value."""
    ((name, field),) = schema["properties"].items()
    return json.dumps({name: text if text in field["enum"] else field["enum"][0]})


class VectorEngine(EchoEngine):
    """An embedding engine that returns the same vector for every text."""

    def models(self) -> list[str]:
        """Return the served names."""
        return [VECTORS]


@contextmanager
def served(platform: LocalPlatform) -> Iterator[str]:
    """Serve a platform in a thread during the block, then close it. Unfinished jobs stay in its store.

    :param platform: the platform
    :return: its base URL
    """
    listening = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        create_app(platform, KEY, Connections()), ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield url_of(listening)
    finally:
        platform.runner.stop()
        server.should_exit = True
        thread.join(10)
        listening.close()
        platform.close()


class TunablePlatform:
    """A local platform in this process, which tests can stop and start again.

    :param data: its data folder
    :param trainer: its trainer
    :param models: cache for models it downloads
    :ivar http: HTTP client that sends the API key
    """

    def __init__(self, data: Path, trainer: ScriptedTrainer, models: ModelStore | None = None) -> None:
        self.data = data
        self.trainer = trainer
        self.models = models
        self.engine: EchoEngine
        self.url = ""
        self.http = httpx.Client(verify=False)
        self.platform: LocalPlatform

    def start(self) -> None:
        """Start serving, and resume unfinished jobs."""
        base = self.data.with_name("base.gguf")
        base.write_text("a model")
        self.engine = EchoEngine(base)
        self.platform = LocalPlatform(
            self.data,
            self.engine,
            VectorEngine(base),
            self.models,
            lambda _: EchoEngine(base),
            trainer=self.trainer,
        )
        self._stack = ExitStack()
        self.url = self._stack.enter_context(served(self.platform))
        self.http = httpx.Client(
            verify=False,
            base_url=self.url,
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=20,
            trust_env=False,
        )
        self.platform.resume()

    def stop(self) -> None:
        """Stop serving. Unfinished jobs stay in the store."""
        self.http.close()
        self._stack.close()


@contextmanager
def tunable_platform(
    data: Path, trainer: ScriptedTrainer, models: ModelStore | None = None
) -> Iterator[TunablePlatform]:
    """Serve a platform during the block.

    :param data: its data folder
    :param trainer: its trainer
    :param models: cache for models it downloads
    """
    data.parent.mkdir(exist_ok=True)
    platform = TunablePlatform(data, trainer, models)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()
