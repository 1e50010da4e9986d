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
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120
"""Seconds after which a fork is killed."""


class WarmPython:
    """Runs code in forks of a process, each as if it were a process of its own.

    :param process: the process, which has run the first code
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, code: str, *arguments: str, **env: str) -> str:
        """Run code after the first code, with the present environment, and return what it prints.

        :param code: the code
        :param arguments: its ``sys.argv[1:]``
        :param env: more environment variables
        :raises AssertionError: it fails; the message has its stderr
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r") as printed, tempfile.NamedTemporaryFile("r") as errors:
            order = {"code": code, "arguments": arguments, "env": os.environ | env}
            json.dump(order | {"stdout": printed.name, "stderr": errors.name}, self._process.stdin)
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            status = self._process.stdout.readline().strip()
            assert status == "0", f"ended with {status or 'its parent'}:\n{errors.read()}"
            return printed.read()


@contextmanager
def warm_python(code: str) -> Iterator[WarmPython]:
    """Run code in a new process, which the forks continue, during the block.

    :param code: imports; they must not start threads
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.forks", code],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield WarmPython(process)


def main() -> None:
    """Run the first code, then fork for each order."""
    exec(sys.argv[1], {"__name__": "__main__"})
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("a fork would lose threads")
    gc.freeze()  # a collection in a fork would copy all memory
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(order: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        signal.alarm(TIMEOUT)
        for number, name in ((1, "stdout"), (2, "stderr")):
            with Path(order[name]).open("w") as file:
                os.dup2(file.fileno(), number)
        os.environ.clear()
        os.environ.update(order["env"])
        sys.argv = ["-c", *order["arguments"]]
        exec(order["code"], {"__name__": "__main__"})
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not continue as another parent
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without freeing each object


if __name__ == "__main__":
    main()
