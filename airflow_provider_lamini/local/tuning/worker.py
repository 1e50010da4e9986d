"""Main module of the training subprocess: reads a recipe, reports each step, and writes the adapter."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from airflow_provider_lamini.local.tuning.trainer import (
    ADAPTER,
    CHECKPOINT,
    DONE,
    Recipe,
    Step,
    TrainingFailed,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json


class Listener(Protocol):
    """What a training tells, and what it waits for."""

    def log(self, text: str) -> None:
        """Take a line for the log."""

    def report(self, step: Step) -> None:
        """Take a completed step."""

    def wait_for_next_step(self) -> None:
        """Return when the next step may start."""


class Parent:
    """The connection to the parent process over standard input and output.

    This process exits as soon as the parent closes standard input, because nobody waits for the training any more.
    """

    def __init__(self) -> None:
        self._output = os.fdopen(os.dup(1), "wb")
        # Redirect what libraries print to standard error, so that it does not mix with the messages.
        os.dup2(2, 1)
        self._input = sys.stdin.buffer
        self._allowed_steps = threading.Semaphore(0)
        self.recipe = Recipe.decode(self._input.readline())
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for _ in self._input:
            self._allowed_steps.release()
        os._exit(0)  # even in the middle of a computation

    def send(self, **message: Json) -> None:
        """Send a message as one line of JSON."""
        self._output.write(json.dumps(message).encode() + b"\n")
        self._output.flush()

    def log(self, text: str) -> None:
        """Send a line for the log."""
        self.send(log=text)

    def report(self, step: Step) -> None:
        """Send a completed step."""
        self.send(
            step=step.step,
            total=step.total,
            loss=step.loss,
            learning_rate=step.learning_rate,
            seconds=step.seconds,
        )

    def wait_for_next_step(self) -> None:
        """Wait until the parent allows the next step."""
        self._allowed_steps.acquire()


def main() -> int:
    """Train according to the recipe on standard input.

    :return: exit status
    """
    parent = Parent()
    try:
        train_in_this_process(parent.recipe, parent)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        parent.send(failed=_describe(error))
        return 1
    return 0


def train_in_this_process(recipe: Recipe, listener: Listener) -> None:
    """Train from the last checkpoint in the recipe's folder on, if there is one, and write the adapter.

    :param recipe: what to train, and how; its folder exists
    :param listener: takes the steps and the log
    :raises TrainingFailed: the rows or the model are unsuitable
    """
    from airflow_provider_lamini.local.tuning.lora import LoraTraining

    training = LoraTraining(recipe, listener.log)
    adapter_steps = {*recipe.adapter_steps()} - {recipe.max_steps}
    if training.step:
        listener.log(f"Resuming after step {training.step} of {recipe.max_steps}.")
    while training.step < recipe.max_steps:
        start = time.perf_counter()
        loss = training.advance()
        seconds = time.perf_counter() - start
        step = Step(
            step=training.step,
            total=recipe.max_steps,
            loss=loss,
            learning_rate=recipe.learning_rate_at(training.step),
            seconds=seconds,
        )
        listener.report(step)
        if (
            training.step in adapter_steps
        ):  # before the checkpoint: a resumed training does not write it again
            training.write_adapter(recipe.adapter_path(training.step))
        if training.step % recipe.checkpoint_every == 0 or training.step == recipe.max_steps:
            training.save(recipe.folder / CHECKPOINT)
        listener.wait_for_next_step()
    training.write_adapter(recipe.folder / ADAPTER)
    done = recipe.folder / DONE
    unfinished = done.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"fingerprint": recipe.fingerprint(), "steps": recipe.max_steps}))
    unfinished.replace(done)


def _describe(error: Exception) -> str:
    """Describe an error to users; the text of an unexpected error is omitted, because it may contain a row."""
    from airflow_provider_lamini.local.unexpected import describe_safely

    if isinstance(error, TrainingFailed):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"The training could not continue: {error.strerror}: {error.filename or 'no file'}."
    if isinstance(error, MemoryError):
        return "The training ran out of memory: try a smaller batch."
    return f"The training failed: {describe_safely(error)}."


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # A regular interpreter exit fails while a thread reads standard input.
    os._exit(status)
