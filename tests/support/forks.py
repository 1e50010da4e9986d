"""Python processes that start as forks of one that has already imported something: Airflow takes seconds, a fork takes none."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120
"""Seconds after which a fork that should end is killed."""
SINGLE = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Environment that keeps NumPy and PyArrow from starting threads at import, which a fork would lose."""
RUNNING = 1000
"""The answer about a fork that runs; no process ends with it."""


class WarmPython:
    """Runs code in forks of a process, each as if it were a process of its own.

    :param process: the process, which has run the first code
    :param env: the environment of the forks; ``None`` for the present one of this process
    """

    def __init__(self, process: subprocess.Popen[str], env: Mapping[str, str] | None = None) -> None:
        self._process = process
        self._env = env
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id of the process; the forks are its children."""
        return self._process.pid

    def run(self, code: str, *arguments: str, **env: str) -> str:
        """Run code after the first code, and return what it prints.

        :param code: the code
        :param arguments: its ``sys.argv[1:]``
        :param env: more environment variables
        :raises AssertionError: it fails; the message has its stderr
        """
        done = self.complete(code, *arguments, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def complete(self, code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run code in the same way, and return how it ends."""
        with tempfile.NamedTemporaryFile("r") as stdout, tempfile.NamedTemporaryFile("r") as stderr:
            fork = self.start(code, *arguments, stdout=stdout.name, stderr=stderr.name, **env)
            try:
                status = fork.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                fork.kill()
                raise
            return subprocess.CompletedProcess(arguments, status, stdout.read(), stderr.read())

    def start(
        self, code: str, *arguments: str, stdout: str, stderr: str, stdin: str = os.devnull, **env: str
    ) -> Fork:
        """Start code in the same way.

        :param stdout: path of what gets its stdout, at the end if it is a file
        :param stderr: path of what gets its stderr
        :param stdin: path of its stdin
        """
        present = os.environ if self._env is None else self._env
        order = {"code": code, "arguments": arguments, "env": {**present, **env}}
        return Fork(self, self.ask(order | {"stdin": stdin, "stdout": stdout, "stderr": stderr}))

    def ask(self, order: dict[str, Any]) -> int:
        """Send an order to the process and return its answer.

        :raises AssertionError: the process has ended
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "The process that forks has ended; its stderr says why."
        return int(answer)


class Fork:
    """A fork, with methods like those of a :class:`subprocess.Popen`.

    :param parent: what has started it
    :param pid: its process id
    """

    def __init__(self, parent: WarmPython, pid: int) -> None:
        self._parent = parent
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status if it has ended."""
        if self._status is None and (status := self._parent.ask({"ended": self.pid})) != RUNNING:
            self._status = status
        return self._status

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait until it ends.

        :param timeout: seconds
        :raises subprocess.TimeoutExpired: it has not ended
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


@contextmanager
def warm_python(code: str, env: Mapping[str, str] | None = None, threads: int = 1) -> Iterator[WarmPython]:
    """Run code in a new process, which the forks continue, during the block. It ends with all forks that still run.

    :param code: imports
    :param env: the environment of the process and of its forks, if it is not the present one
    :param threads: the largest number of threads that it may have then; all but the first must start again in each fork
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.forks", code, str(threads)],
        cwd=ROOT,
        env={**(os.environ if env is None else env), **SINGLE},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield WarmPython(process, env)


def require_one_thread(allowed: int = 1) -> None:
    """Make sure that a fork of this process has all that it has.

    :param allowed: another largest number of threads, if those beyond the first start again in each fork
    :raises RuntimeError: it has more threads, of which a fork would copy only one
    """
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > allowed:
        raise RuntimeError(f"{threads} threads: a fork would copy only one of them")


def main() -> None:
    """Run the first code, then fork for each order."""
    exec(sys.argv[1], {"__name__": "__main__"})
    require_one_thread(int(sys.argv[2]))
    gc.freeze()  # a collection in a fork would copy all memory
    running: set[int] = set()
    try:
        for line in sys.stdin:
            print(_answer(json.loads(line), running), flush=True)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _answer(order: dict[str, Any], running: set[int]) -> int:
    """Ask whether a fork has ended, or start one.

    :param running: the forks that have not ended, as far as anybody has asked
    :return: the exit status, or the process id
    """
    if "ended" in order:
        pid, status = os.waitpid(order["ended"], os.WNOHANG)
        running.discard(pid)
        return os.waitstatus_to_exitcode(status) if pid else RUNNING
    opened = [os.open(order["stdin"], os.O_RDONLY)]
    opened += [os.open(order[name], os.O_WRONLY | os.O_APPEND) for name in ("stdout", "stderr")]
    pid = os.fork()
    if not pid:
        _run(order, opened)
    running.add(pid)
    for file in opened:
        os.close(file)
    return pid


def _run(order: dict[str, Any], opened: list[int]) -> NoReturn:
    status = 1
    try:
        for number, file in enumerate(opened):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(order["env"])
        sys.argv = ["-c", *order["arguments"]]
        exec(order["code"], {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - a fork must not continue as another parent
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without freeing each object


if __name__ == "__main__":
    main()
