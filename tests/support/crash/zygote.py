"""A process that has imported everything and forks itself for each phase of a task.

Airflow runs every try, every resume and every trigger in a process of its own. A fork takes milliseconds, a new interpreter
seconds. The zygote reads orders as lines of JSON from stdin and writes outcomes as lines to stdout.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from tests.support.forks import ROOT, SINGLE, require_one_thread

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60.0
"""Timeout of a process in seconds. A process that hangs is a failure."""

Phase = Literal["execute", "wait", "resume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A phase of a task to run in a process of its own.

    :param cases: module with the cases
    :param case: name of the case
    :param place: the folder of this life
    :param phase: start a try, run the trigger, or resume
    :param env: additional environment variables
    :param deferral: the deferral of a waiting task
    :param event: the trigger's event
    :param step: kill at a named step: its name, and how often it occurred before
    :param call: kill at this function call
    :param seconds: kill from outside after this many seconds
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
    """How a phase ended.

    :param how: ``killed``, ``returned`` a value, ``deferred``, ``yielded`` an event, or ``raised``
    :param value: the value, the deferral, or the event
    :param error: class name and message of the exception
    :param fatal: whether Airflow does not retry after it
    :param steps: the named steps that occurred, unless it was killed
    :param calls: number of function calls, unless it was killed
    """

    how: Literal["killed", "returned", "deferred", "yielded", "raised"]
    value: Any = None
    error: tuple[str, str] | None = None
    fatal: bool = False
    steps: list[str] = field(default_factory=list)
    calls: int = 0


class Zygote:
    """Client of the forking process.

    :param module: module to import before forking
    :param log: file for the output of the process and its children
    :param env: environment; by default that of this process
    :param python: interpreter
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

        :raises RuntimeError: the process ended, or a child hung or ended without an outcome
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the zygote ended with {self._process.wait(10)}; output:\n{self._output()}")
        outcome = json.loads(line)
        if "broken" in outcome:
            raise RuntimeError(f"{order.case}, {order.phase}: {outcome['broken']}; output:\n{self._output()}")
        return Outcome(**outcome)

    def _output(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """Stop the process after its last child has ended."""
        self._process.communicate(timeout=TIMEOUT + 10)


def main() -> None:
    """Import everything, then fork for each order."""
    warm(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)  # stdout is for outcomes, so children print to stderr
    for line in sys.stdin:
        outcome = forked(json.loads(line))
        os.write(out, json.dumps(outcome).encode() + b"\n")


def warm(module: str) -> None:
    """Import what the children need, and let the module of the cases do what they need beside that."""
    cases = import_module(module)
    for name in getattr(cases, "WARM", ()):
        import_module(name)
    getattr(cases, "warm", lambda: None)()
    require_one_thread()
    gc.freeze()  # a collection in a child would copy all memory


def forked(order: dict[str, Any]) -> dict[str, Any]:
    """Run an order in a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(order, writer)
    os.close(writer)
    limit = order["seconds"] or TIMEOUT
    outcome_bytes, in_time = _read_until(reader, time.monotonic() + limit)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not in_time:  # it may have ended just before the kill
        outcome_bytes += _read_until(reader, time.monotonic() + 1)[0]
    os.close(reader)
    if os.WIFSIGNALED(status):
        if not in_time and order["seconds"] is None:
            return {"broken": f"not finished after {limit:g} s"}
        return asdict(Outcome(how="killed"))
    if not outcome_bytes:
        return {"broken": "ended without an outcome"}
    outcome: dict[str, Any] = json.loads(outcome_bytes)
    return outcome


def _read_until(reader: int, end: float) -> tuple[bytes, bool]:
    """Read a child's output until it ends; also return whether it ended in time."""
    output = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            continue
        block = os.read(reader, 1 << 16)
        if not block:
            return output, True
        output += block
    return output, False


def _child(order: dict[str, Any], writer: int) -> None:
    status = 1
    try:
        os.environ.update(order["env"])
        outcome = import_module("tests.support.crash.phases").run(order)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(outcome).encode())
        status = 0
    except BaseException:  # noqa: BLE001 - a child must never continue as a second zygote
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
