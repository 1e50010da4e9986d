"""Training processes as forks of one that has imported torch, transformers and peft, which takes six seconds of a processor."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from functools import cache
from typing import IO, TYPE_CHECKING

from tests.support.forks import TIMEOUT, warm_python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.forks import WarmPython

IMPORTS = """
import os
from airflow_provider_lamini.local.tuning.trainer import environment
os.environ.update(environment(threads=1))
import airflow_provider_lamini.local.tuning.lora
"""
WORKER = """
import runpy
runpy.run_module("airflow_provider_lamini.local.tuning.worker", run_name="__main__", alter_sys=True)
"""


@cache
def forking_trainer() -> WarmPython:
    """Return a process that has imported what a training needs; it ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(warm_python(IMPORTS))


class ForkedWorker:
    """Takes the place of ``trainer.start_worker``: the same process with pipes, but a fork, which has one compute thread.

    :param env: its environment
    :param log: file for its standard error
    """

    def __init__(self, env: Mapping[str, str], log: IO[bytes]) -> None:
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        self.stdin, self.stdout = os.fdopen(to_stdin, "wb"), os.fdopen(from_stdout, "rb")
        paths = [f"/proc/{os.getpid()}/fd/{number}" for number in (stdin, stdout, log.fileno())]
        self._fork = forking_trainer().start(WORKER, stdin=paths[0], stdout=paths[1], stderr=paths[2], **env)
        os.close(stdin)
        os.close(stdout)
        self.terminate, self.kill = self._fork.terminate, self._fork.kill

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait until it ends, and return its exit status."""
        return self._fork.wait(timeout)
