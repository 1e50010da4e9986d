"""A process that has imported everything, and forks itself for each step in the life of a task.

Airflow gives every try, every waking and every trigger a process of its own. A fork costs milliseconds where a new interpreter
takes seconds. Orders come as lines of JSON on the standard input, outcomes leave as lines on the standard output.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[3]
WORKER_SPAWN_DELAY = 60.0
"""Seconds that a process may take. One that hangs is a failure of its own."""

SINGLE = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""NumPy and PyArrow start threads when they are imported, unless told not to."""

Phase = Literal["execute", "wait", "wake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A step in the life of a task, in a process of its own.

    :param cases: the module that has the cases
    :param case: the name of the case
    :param place: the folder of this life
    :param phase: begin a try, run the trigger, or go on after it
    :param env: environment of the process besides
    :param deferral: what Airflow has kept of the task that waits
    :param event: what the trigger has yielded
    :param step: kill it at a named step: the name, and how often it was passed before
    :param call: kill it at this call of any function
    :param seconds: kill it from outside after so many seconds
    """

    cases: str
    case: str
    place: str
    phase: Phase
    env: dict[str, str] = field(default_factory=dict)
    deferral: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    step: tuple[str, int] | None = None
    call: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How such a step ended.

    :param how: ``killed``; ``returned`` a value, ``deferred``, ``yielded`` an event, or ``raised``
    :param value: the value, the deferral, or the event
    :param error: the class of the exception, and its words
    :param fatal: whether Airflow makes no retry after it
    :param steps: the named steps that were passed, unless it was killed
    :param calls: how many functions were called, likewise
    """

    how: Literal["killed", "returned", "deferred", "yielded", "raised"]
    value: Any = None
    error: tuple[str, str] | None = None
    fatal: bool = False
    steps: list[str] = field(default_factory=list)
    calls: int = 0


class Zygote:
    """The process, seen from the one that gives orders.

    :param module: what it imports before it forks
    :param log: a file for what it and its children say
    :param env: its environment, by default this process's
    :param python: its interpreter
    """

    def __init__(
        self, module: str, log: Path, env: dict[str, str] | None = None, python: str = sys.executable
    ) -> None:
        command = [python, "-m", "tests.support.crash.zygote", module]
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**(os.environ if env is None else env), **SINGLE},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )

    def run(self, order: Order) -> Outcome:
        """Carry out an order.

        :raises RuntimeError: where the process is gone, or a child has hung or failed to answer
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the zygote ended with {self._process.wait(10)}; it said:\n{self._said()}")
        answer = json.loads(line)
        if "broken" in answer:
            raise RuntimeError(f"{order.case}, {order.phase}: {answer['broken']}; it said:\n{self._said()}")
        return Outcome(**answer)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End it, once its last child has ended."""
        self._process.communicate(timeout=WORKER_SPAWN_DELAY + 10)


def main() -> None:
    """Import, then fork for each order."""
    warm(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a child prints is for people
    for line in sys.stdin:
        answer = forked(json.loads(line))
        os.write(out, json.dumps(answer).encode() + b"\n")


def warm(module: str) -> None:
    """Import what children need, so that none has to."""
    for name in getattr(import_module(module), "WARM", ()):
        import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"{threads} threads: a fork would copy one of them only")


def forked(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order in a child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(order, writer)
    os.close(writer)
    limit = order["seconds"] or WORKER_SPAWN_DELAY
    told, in_time = _until(reader, limit)
    os.close(reader)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if told:  # it was done in the very moment
        answer: dict[str, Any] = json.loads(told)
        return answer
    if not in_time and order["seconds"] is None:
        return {"broken": f"not done after {limit:g} s"}
    if not os.WIFSIGNALED(status):
        return {"broken": "it ended without an answer; it failed"}
    return asdict(Outcome(how="killed"))


def _until(reader: int, seconds: float) -> tuple[bytes, bool]:
    """What a child tells until it ends, and whether it ended in time."""
    end = time.monotonic() + seconds
    told = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            continue
        block = os.read(reader, 1 << 16)
        if not block:
            return told, True
        told += block
    return b"", False


def _child(order: dict[str, Any], writer: int) -> None:
    status = 1
    try:
        os.environ.update(order["env"])
        answer = import_module("tests.support.crash.phases").run(order)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on as a second zygote
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
