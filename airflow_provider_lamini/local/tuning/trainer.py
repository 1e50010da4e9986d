"""Trains a LoRA of a local model in a process of its own, which can be stopped and goes on where it was."""

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
"""The share of all steps over which the learning rate rises."""
LAST_RATE: Final = 0.1
"""The share of the highest learning rate that the last step has."""
CHECK_SECONDS: Final = 0.1
"""Time between two looks at whether the training must end, while no step comes."""
END_SECONDS: Final = 5.0
"""Time that the process gets to end by itself before it is killed."""
LAST_WORDS: Final = 300
GO: Final = b"go\n"

logger = logging.getLogger(__name__)


class Unavailable(Exception):  # noqa: N818 - says what is wrong
    """This installation cannot train. Its message says what to install."""


class TrainingFailed(Exception):  # noqa: N818 - says what happened
    """The training cannot go on. Its message is for a person; it holds no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train, on what, and how.

    :param base: GGUF file of the model
    :param rows: JSON Lines file with the texts ``input`` and ``output``
    :param folder: where checkpoints and the adapter are kept; one training's own
    :param max_steps: optimizer steps in all, those before a restart included
    :param learning_rate: the highest of the optimizer AdamW; see :meth:`rate_of`
    :param batch_size: rows per step
    :param rank: rank of the LoRA matrices
    :param alpha: weight of the LoRA, divided by the rank
    :param seed: decides the first weights and the order of the rows
    :param checkpoint_every: steps between two checkpoints
    :param context: tokens of one row that are read; longer rows are cut
    :param threads: threads to compute with; by default the CPUs that this process may use
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

    def __post_init__(self) -> None:
        counts = (self.max_steps, self.batch_size, self.rank, self.checkpoint_every, self.threads or 1)
        if min(counts) < 1 or self.context < 2 or min(self.learning_rate, self.alpha) <= 0:  # noqa: PLR2004
            raise ValueError(
                "Steps, batch, rank, checkpoints, threads, rate and alpha must be above 0, context above 1."
            )

    def fingerprint(self) -> str:
        """What two trainings must share for one to go on from the other's checkpoint.

        ``max_steps`` is not part of it, so that a training can be made longer.
        """
        with self.rows.open("rb") as file:
            rows = hashlib.file_digest(file, "sha256").hexdigest()
        deciding = asdict(self) | {"rows": rows, "base": self.base.stat().st_size}
        for name in ("folder", "max_steps", "checkpoint_every", "threads"):
            del deciding[name]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def rate_of(self, step: int) -> float:
        """Return the learning rate of a step: it rises over the first steps, then falls evenly.

        The first gradients are the largest, and what the last batches hold must not outweigh what came before.

        :param step: its number, from 1 on
        """
        done = step - 1
        rising = math.floor(WARM_UP * self.max_steps)
        rise = min(1.0, step / (rising + 1))
        fall = 1 - (1 - LAST_RATE) * done / max(1, self.max_steps - 1)
        return self.learning_rate * rise * fall

    def encode(self) -> bytes:
        """As the training process reads it, on one line."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Recipe:
        """Read what :meth:`encode` wrote."""
        fields = json.loads(line)
        return cls(**fields | {name: Path(fields[name]) for name in ("base", "rows", "folder")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a training.

    :param step: its number, from 1 on
    :param total: steps in all
    :param loss: mean loss of the answers' tokens, before the step
    :param learning_rate: the step's
    :param seconds: time that it took
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    seconds: float


def check_available() -> None:
    """Return if this installation can train; nothing is imported.

    :raises Unavailable: a package is missing
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"Tuning needs {', '.join(missing)}, which this installation of the local platform lacks. "
            "Run: pip install 'airflow-provider-lamini[train]'"
        )


def train(recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
    """Train, from the folder's last checkpoint on if there is one.

    Steps before the checkpoint are neither computed nor told again; those after it are. A step begins only when
    ``on_step`` has returned for the step before, and ``check`` too: while one of them waits, the training waits.

    :param recipe: what to train
    :param check: called often, also while no step comes; what it raises ends the training and comes out of here
    :param on_step: takes each step when it is done
    :returns: the adapter, a GGUF file
    :raises Unavailable: this installation cannot train
    :raises TrainingFailed: the rows or the model do not serve, or the process died
    """
    check_available()
    recipe.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    adapter = recipe.folder / ADAPTER
    if adapter.is_file() and _done(recipe):
        return adapter
    with (recipe.folder / "worker.log").open("w+b") as words:
        worker = _Worker(recipe, words)
        try:
            for step in worker.steps(check):
                on_step(step)
                check()
                worker.go_on()
        finally:
            worker.end()
    if not adapter.is_file():
        raise TrainingFailed("The training process ended without an adapter.")
    return adapter


def _done(recipe: Recipe) -> bool:
    try:
        done = json.loads((recipe.folder / DONE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(done == {"fingerprint": recipe.fingerprint(), "steps": recipe.max_steps})


def default_threads() -> int:
    """Return how many threads to train with: one for each CPU that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS_LIMIT, usable))


class _Worker:
    """The training process.

    It reads the recipe and then one line for each step from its standard input, whose end tells it that this process
    is gone, however that came about.

    :param recipe: what it trains
    :param words: file for what it says on its standard error
    """

    def __init__(self, recipe: Recipe, words: IO[bytes]) -> None:
        self._words = words
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_lamini.local.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=_environment(recipe.threads or default_threads()),
        )
        self._said: queue.SimpleQueue[dict[str, Json] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="training", daemon=True)
        self._reader.start()
        self._write(recipe.encode())

    def steps(self, check: Callable[[], None]) -> Iterator[Step]:
        """Yield the steps as they are done; ask ``check`` while none comes.

        :raises TrainingFailed: the process could not train, or died
        """
        while (step := self._next_step(check)) is not None:
            yield step

    def _next_step(self, check: Callable[[], None]) -> Step | None:
        while True:
            check()
            try:
                said = self._said.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                continue
            if said is None:
                self._ended()
                return None
            if "log" in said:
                logger.info("%s", said["log"])
            elif "failed" in said:
                raise TrainingFailed(str(said["failed"]))
            else:
                return Step(**said)  # type: ignore[arg-type] # the worker wrote a step's fields

    def go_on(self) -> None:
        """Let the process begin the next step."""
        self._write(GO)

    def end(self) -> None:
        """End the process, if it has not, and wait for it."""
        process = self._process
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # what was still to be written to it
                    continue

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it died; the end of its output tells how

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def _ended(self) -> None:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise TrainingFailed("The training process closed its output but did not end.") from None
        if code == 0:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        hint = " Memory may have run out: try a smaller batch." if code < 0 else ""
        self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, self._words.tell() - LAST_WORDS))
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        last = f" It last said: {lines[-1]}" if lines else ""
        raise TrainingFailed(
            f"The training process {how}.{hint}{last} The training can be resumed from its last checkpoint."
        )


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        # Threads that wait for each other leave the CPU to other processes instead of spinning.
        "OMP_WAIT_POLICY": "PASSIVE",
        # What a process that died said last is to be its error, not a library's warning.
        "PYTHONWARNINGS": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
        # Everything lies on the disk: nothing is to be looked for on the network.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
