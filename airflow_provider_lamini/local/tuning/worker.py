"""The training process: reads a recipe, tells each step, writes the adapter. Started by ``trainer``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.local.tuning.trainer import ADAPTER, CHECKPOINT, DONE, Recipe, Step

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json


class Line:
    """The line to the process that started this one.

    Its end means that nobody waits for the training any more.
    """

    def __init__(self) -> None:
        self._to = os.fdopen(os.dup(1), "wb")
        # What libraries print belongs to the log, not between the steps.
        os.dup2(2, 1)
        self._from = sys.stdin.buffer
        self._allowed = threading.Semaphore(0)
        self.recipe = Recipe.decode(self._from.readline())
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for _ in self._from:
            self._allowed.release()
        os._exit(0)  # in the middle of whatever it computes

    def say(self, **said: Json) -> None:
        """Tell something."""
        self._to.write(json.dumps(said).encode() + b"\n")
        self._to.flush()

    def log(self, text: str) -> None:
        """Tell a line for a person."""
        self.say(log=text)

    def tell(self, step: Step) -> None:
        """Tell a step."""
        self.say(
            step=step.step,
            total=step.total,
            loss=step.loss,
            learning_rate=step.learning_rate,
            seconds=step.seconds,
        )

    def wait(self) -> None:
        """Wait until the next step may begin."""
        self._allowed.acquire()


def main() -> int:
    """Train by the recipe on standard input.

    :returns: the exit status
    """
    line = Line()
    try:
        _train(line)
    except Exception as error:  # noqa: BLE001 - it is told to the other process
        line.say(failed=_words_of(error))
        return 1
    return 0


def _train(line: Line) -> None:
    from airflow_provider_lamini.local.tuning.lora import Training

    recipe = line.recipe
    training = Training(recipe, line.log)
    if training.step:
        line.log(f"Going on after step {training.step} of {recipe.max_steps}.")
    while training.step < recipe.max_steps:
        began = time.perf_counter()
        loss = training.advance()
        seconds = time.perf_counter() - began
        step = Step(
            step=training.step,
            total=recipe.max_steps,
            loss=loss,
            learning_rate=recipe.rate_of(training.step),
            seconds=seconds,
        )
        line.tell(step)
        if training.step % recipe.checkpoint_every == 0 or training.step == recipe.max_steps:
            training.save(recipe.folder / CHECKPOINT)
        line.wait()
    training.write_adapter(recipe.folder / ADAPTER)
    done = recipe.folder / DONE
    unfinished = done.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"fingerprint": recipe.fingerprint(), "steps": recipe.max_steps}))
    unfinished.replace(done)


def _words_of(error: Exception) -> str:
    """What to tell of an error: all of it where it is this project's own, else no text, which may be a row's."""
    from airflow_provider_lamini.local.errors import place_of
    from airflow_provider_lamini.local.tuning.adapter import LayersUnknown
    from airflow_provider_lamini.local.tuning.base_model import BaseUnusable
    from airflow_provider_lamini.local.tuning.examples import RowsUnusable
    from airflow_provider_lamini.local.tuning.lora import CheckpointUnusable, Diverged

    own: Any = (LayersUnknown, RowsUnusable, CheckpointUnusable, Diverged, BaseUnusable)
    if isinstance(error, own):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"The training could not go on: {error.strerror}: {error.filename or 'no file'}."
    if isinstance(error, MemoryError):
        return "Memory ran out: try a smaller batch."
    return f"The training broke: {place_of(error)}."


if __name__ == "__main__":
    ended = main()
    sys.stderr.flush()
    # Python's own way out fails while a thread waits for the standard input.
    os._exit(ended)
