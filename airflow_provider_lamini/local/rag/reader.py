"""Reads documents in a process of its own, with limits on time and memory: a document may be made to take too much."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from airflow_provider_lamini.local.rag.documents import UnreadableDocumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

CPU_SECONDS: Final = 60
"""CPU time that a document may take, beside what its size adds."""

BYTES_PER_CPU_SECOND: Final = 250_000

WALL_FACTOR: Final = 4
WALL_SECONDS: Final = 60
"""Seconds that a document may take, beside :data:`WALL_FACTOR` times its CPU time: the machine may be busy."""

MEMORY_BYTES: Final = 2 << 30
"""Address space of the process."""

CHECK_SECONDS: Final = 0.1
"""Seconds between checks whether the reading must stop."""

_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Variables that the process gets. No key is among them."""

_PIECE: Final = 1 << 16


class DocumentReader:
    """Reads documents, one at a time, each within limits.

    :param cpu_seconds: CPU time that a document may take, beside what its size adds
    :param memory: address space of the process, in bytes
    """

    def __init__(self, *, cpu_seconds: int = CPU_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self._cpu_seconds = cpu_seconds
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None
        self._received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, path: Path, name: str, check: Callable[[], None]) -> list[str]:
        """Read a document and split it into passages.

        :param path: the file
        :param name: the document's original file name
        :param check: called frequently; an exception it raises stops the reading and propagates
        :return: its passages in order
        :raises UnreadableDocumentError: no text can be extracted within the limits
        """
        cpu_seconds = self._cpu_seconds + path.stat().st_size // BYTES_PER_CPU_SECOND
        deadline = time.monotonic() + WALL_SECONDS + WALL_FACTOR * cpu_seconds
        self._send({"path": str(path), "name": name, "cpu_seconds": cpu_seconds})
        passages: list[str] = []
        try:
            while True:
                message = json.loads(self._next_line(check, deadline, cpu_seconds))
                if "passages" not in message:
                    break
                passages += message["passages"]
        except UnreadableDocumentError:
            raise
        except BaseException:
            self._stop()
            raise
        if "error" in message:
            raise UnreadableDocumentError(message["error"])
        return passages

    def _send(self, message: dict[str, Json]) -> None:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None  # noqa: S101 - opened by _start
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._received.clear()
        return subprocess.Popen(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "airflow_provider_lamini.local.rag.reader_process", str(self._memory)],
            env={**environment, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _next_line(self, check: Callable[[], None], deadline: float, cpu_seconds: int) -> bytes:
        process = self._process
        assert process is not None  # noqa: S101 - started by _send
        assert process.stdout is not None  # noqa: S101 - opened by _start
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            check()
            if select.select([process.stdout], [], [], CHECK_SECONDS)[0]:
                piece = os.read(process.stdout.fileno(), _PIECE)
                if not piece:
                    raise UnreadableDocumentError(self._why_it_died(cpu_seconds))
                self._received += piece
            elif time.monotonic() > deadline:
                self._stop()
                raise UnreadableDocumentError("reading it takes too long")
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _why_it_died(self, cpu_seconds: int) -> str:
        status = self._stop()
        if status == -signal.SIGXCPU:
            return f"reading it takes more than {cpu_seconds} s of CPU time"
        return f"reading it ended the process that reads documents (status {status})"

    def _stop(self) -> int:
        """Stop the process.

        :return: its exit status, negative for a signal
        """
        process, self._process = self._process, None
        if process is None:
            return 0
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            # It ends by itself when its input is closed, or has ended.
            return process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
