"""Runs a LoRA training in a subprocess, which can be stopped at any time and resumes from its last checkpoint."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import math
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.call import Json

ADAPTER: Final = "adapter.gguf"
CHECKPOINT: Final = "checkpoint.pt"
DONE: Final = "done.json"
PACKAGES: Final = ("torch", "transformers", "peft")
CONTEXT: Final = 2048
THREADS_LIMIT: Final = 8
WARM_UP: Final = 0.1
"""Fraction of all steps over which the learning rate rises."""
FINAL_RATE: Final = 0.1
"""Learning rate of the last step, as a fraction of the peak."""
CHECK_INTERVAL: Final = 0.1
"""Seconds between checks whether the training must stop, while a step is computed."""
TERMINATE_TIMEOUT: Final = 5.0
"""Seconds that the process has to exit before it is killed."""
LOG_TAIL_BYTES: Final = 300
GO: Final = b"go\n"

logger = logging.getLogger(__name__)


class TrainingUnavailable(Exception):  # noqa: N818 - says what is wrong
    """This installation cannot train. The message says what to install."""


class TrainingFailed(Exception):  # noqa: N818 - says what happened
    """The training cannot continue. The message is meant for users; it never contains text of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that defines a training: model, rows and parameters.

    :param base: GGUF file of the base model
    :param rows: JSON Lines file with the strings ``input`` and ``output``
    :param folder: folder for checkpoints and the adapter, for this training alone
    :param max_steps: total number of optimizer steps, including those before a restart
    :param learning_rate: peak learning rate of AdamW; :meth:`learning_rate_at` has the schedule
    :param batch_size: rows per step
    :param rank: rank of the LoRA matrices
    :param alpha: LoRA alpha, before it is divided by the rank
    :param seed: seed of the initial weights and of the order of the rows
    :param checkpoint_every: steps between checkpoints
    :param context: maximum tokens per row; longer rows are truncated
    :param threads: compute threads; defaults to the number of CPUs that this process may use
    :param adapter_every: steps between adapters that are kept beside the last one; 0 keeps none
    :param start: adapter of the same base model and rank to continue from
    :param reward: if set, the model learns to write outputs with a high reward: test function to weight
    :param generations: outputs per row that are compared by their rewards
    """

    base: Path
    rows: Path
    folder: Path
    max_steps: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 10
    rank: int = 16
    alpha: float = 32.0
    seed: int = 0
    checkpoint_every: int = 5
    context: int = CONTEXT
    threads: int | None = None
    adapter_every: int = 0
    start: Path | None = None
    reward: dict[str, float] | None = None
    generations: int = 4

    def __post_init__(self) -> None:
        counts = (self.max_steps, self.batch_size, self.rank, self.checkpoint_every, self.threads or 1)
        if min(counts) < 1 or self.context < 2 or min(self.learning_rate, self.alpha) <= 0:  # noqa: PLR2004
            raise ValueError(
                "max_steps, batch_size, rank, checkpoint_every, threads, learning_rate and alpha must be "
                "above 0, and context above 1."
            )

    def fingerprint(self) -> str:
        """Return a hash of everything that must be equal to resume from a checkpoint.

        ``max_steps`` is not included, so that a training can be extended.
        """
        with self.rows.open("rb") as file:
            rows = hashlib.file_digest(file, "sha256").hexdigest()
        fields = asdict(self) | {"rows": rows, "base": self.base.stat().st_size}
        for name in ("folder", "max_steps", "checkpoint_every", "threads", "adapter_every"):
            del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then linear decay.

        The warm-up damps the first gradients, which are the largest. The decay keeps the last batches from outweighing
        earlier ones.

        :param step: number of the step, from 1
        """
        done = step - 1
        warm_up_steps = math.floor(WARM_UP * self.max_steps)
        warm_up = min(1.0, step / (warm_up_steps + 1))
        decay = 1 - (1 - FINAL_RATE) * done / max(1, self.max_steps - 1)
        return self.learning_rate * warm_up * decay

    def encode(self) -> bytes:
        """Serialize the recipe to one line of JSON for the training process."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Recipe:
        """Parse the output of :meth:`encode`."""
        fields = json.loads(line)
        paths = [name for name in ("base", "rows", "folder", "start") if fields[name] is not None]
        return cls(**fields | {name: Path(fields[name]) for name in paths})

    def adapter_path(self, step: int) -> Path:
        """Return the path of the adapter after a step; the last one has a name without a number."""
        return self.folder / (ADAPTER if step == self.max_steps else f"adapter-{step}.gguf")

    def adapter_steps(self) -> list[int]:
        """Return the steps after which an adapter is kept, in order; the last step is one of them."""
        every = self.adapter_every or self.max_steps
        return sorted({*range(every, self.max_steps, every), self.max_steps})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A completed step of a training.

    :param step: number of the step, from 1
    :param total: total number of steps
    :param loss: mean loss per answer token, before the step
    :param learning_rate: learning rate of the step
    :param seconds: duration of the step
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    seconds: float


def check_available() -> None:
    """Check that this installation can train, without importing torch.

    :raises TrainingUnavailable: a package is missing
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainingUnavailable(
            "Run pip install 'airflow-provider-lamini[train]' where the local platform runs. It trains no text models "
            f"without {', '.join(missing)}."
        )


def train(recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
    """Train, or resume from the last checkpoint in the recipe's folder if there is one.

    Steps before the checkpoint are neither computed nor reported again; those after it are. A step starts only after
    ``on_step`` and ``check`` have returned for the step before: while one of them blocks, the training pauses.

    :param recipe: what to train, and how
    :param check: called frequently, also during a step; an exception it raises stops the training and propagates
    :param on_step: called after each step
    :return: the adapter's GGUF file
    :raises TrainingUnavailable: this installation cannot train
    :raises TrainingFailed: the rows or the model are unsuitable, or the process died
    """
    check_available()
    recipe.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    adapter = recipe.folder / ADAPTER
    if adapter.is_file() and _is_done(recipe):
        return adapter
    with (recipe.folder / "worker.log").open("w+b") as log:
        process = _TrainingProcess(recipe, log)
        try:
            for step in process.steps(check):
                on_step(step)
                check()
                process.allow_next_step()
        finally:
            process.stop()
    if not adapter.is_file():
        raise TrainingFailed("The training process exited without writing an adapter.")
    return adapter


def _is_done(recipe: Recipe) -> bool:
    try:
        done = json.loads((recipe.folder / DONE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(done == {"fingerprint": recipe.fingerprint(), "steps": recipe.max_steps})


def _available_cpus() -> int:
    """Return the number of CPUs that this process may use, up to a limit."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS_LIMIT, usable))


class _TrainingProcess:
    """The training subprocess, as seen by its parent.

    It reads the recipe from its standard input, then one line before each further step. When standard input is closed,
    because this process has ended for whatever reason, the subprocess exits.

    :param recipe: what to train
    :param log: file for its standard error
    """

    def __init__(self, recipe: Recipe, log: IO[bytes]) -> None:
        self._log = log
        self._process = start_worker(environment(recipe.threads or _available_cpus()), log)
        self._messages: queue.SimpleQueue[dict[str, Json] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="training", daemon=True)
        self._reader.start()
        self._write(recipe.encode())

    def steps(self, check: Callable[[], None]) -> Iterator[Step]:
        """Yield each step when it is done; call ``check`` while waiting for the next one.

        :raises TrainingFailed: the training failed, or the process died
        """
        while (step := self._next_step(check)) is not None:
            yield step

    def _next_step(self, check: Callable[[], None]) -> Step | None:
        while True:
            check()
            try:
                message = self._messages.get(timeout=CHECK_INTERVAL)
            except queue.Empty:
                continue
            if message is None:
                self._check_exit_status()
                return None
            if "log" in message:
                logger.info("%s", message["log"])
            elif "failed" in message:
                raise TrainingFailed(str(message["failed"]))
            else:
                return Step(**message)  # type: ignore[arg-type] # the worker wrote a step's fields

    def allow_next_step(self) -> None:
        """Let the process start the next step."""
        self._write(GO)

    def stop(self) -> None:
        """Terminate the process if it is running, and wait until it has exited."""
        process = self._process
        process.terminate()
        try:
            process.wait(TERMINATE_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # unwritten data for a process that has exited
                    continue

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # the process died; the end of its output triggers the error

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def _check_exit_status(self) -> None:
        try:
            code = self._process.wait(TERMINATE_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise TrainingFailed("The training process closed its output but did not exit.") from None
        if code == 0:
            return
        outcome = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        hint = " It may have run out of memory: try a smaller batch." if code < 0 else ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LOG_TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        last_line = f" Its last output: {lines[-1]}" if lines else ""
        raise TrainingFailed(
            f"The training process {outcome}.{hint}{last_line} "
            "The training can be resumed from its last checkpoint."
        )


def start_worker(env: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the training subprocess, which takes seconds to import torch.

    :param env: its environment
    :param log: file for its standard error
    """
    return subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_lamini.local.tuning.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=env,
    )


def environment(threads: int) -> dict[str, str]:
    """Return the environment of the training subprocess.

    :param threads: number of compute threads
    """
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        # Waiting threads sleep instead of spinning, which leaves the CPU to other processes.
        "OMP_WAIT_POLICY": "PASSIVE",
        # The last line on standard error should be the error of a crashed process, not a warning.
        "PYTHONWARNINGS": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
        # All files are local: never look for anything on the network.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
