"""The local platform as a child process, for tests that need a running platform."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.forks import warm_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.forks import Fork, WarmPython

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-for-tests"
SERVE = """
import runpy
runpy.run_module("airflow_provider_lamini.local", run_name="__main__", alter_sys=True)
"""
"""Runs the platform's command in a fork."""
READY = re.compile(r"lamini-local: serving (http://\S+) \(models: (.*)\)")


@cache
def forking_platform() -> WarmPython:
    """Return a process that has imported the platform; it ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(warm_python("import airflow_provider_lamini.local.server"))


class PlatformDiedError(Exception):
    """The platform exited or did not become ready. The message contains the end of its output."""


class Control:
    """Client of a platform's control endpoints.

    :param url: base URL of the platform
    :param key: its API key
    """

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            verify=False,
            base_url=f"{url}/_control",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
        )

    def fault(self, path: str, **options: Any) -> None:
        """Add a fault for requests whose whole path matches a regular expression.

        :param path: for example ``/v1/batch_completions`` or ``/v1/batch_completions/.*/result``
        :param options: ``method``, ``contains`` and ``longer_than`` (of the body), ``skip``, ``times`` (None for all),
            ``when`` (``before`` or ``after`` the request is
            processed), ``delay``, ``status``, ``headers``, ``body``, ``truncate``, ``drop``
        """
        self._post("/faults", {"path": path, **options})

    def faults(self) -> list[dict[str, Any]]:
        """List the faults. ``hits`` is the number of requests that a fault affected."""
        return self._get("/faults")  # type: ignore[no-any-return]

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._http.delete("/faults").raise_for_status()

    def loading(self, seconds: float, model_name: str | None = None) -> None:
        """Report a model, or every model, as loading for some seconds."""
        self._post("/loading", {"seconds": seconds, "model_name": model_name})

    def row_fault(self, contains: str, times: int | None = 1) -> None:
        """Let this many rows fail whose prompt contains a text; None fails all of them."""
        self._post("/row-faults", {"contains": contains, "times": times})

    def hold(self, kind: str | None = None, job_id: str | None = None, after_rows: int = 0) -> None:
        """Keep jobs from starting more than this many rows."""
        self._post("/holds", {"kind": kind, "job_id": job_id, "after_rows": after_rows})

    def release(self) -> None:
        """Release all held jobs."""
        self._http.delete("/holds").raise_for_status()

    def upload_base(self, base: str) -> None:
        """Let clients upload datasets as ``local`` or ``azure`` until the next reset."""
        self._post("/upload-base", {"base": base})

    def jobs(self, kind: str | None = None) -> list[dict[str, Any]]:
        """List the jobs, oldest first: id, kind, state, detail, total, done, computed_here, runs, created, ended."""
        return self._get("/jobs", {"kind": kind} if kind else {})  # type: ignore[no-any-return]

    def end(self, job_id: str, state: str, detail: str | None = None) -> bool:
        """End a job as ``failed``, ``cancelled``, ``timed out``, ``succeeded`` or ``partly succeeded``."""
        return bool(self._post(f"/jobs/{job_id}/end", {"state": state, "detail": detail}).json()["ended"])

    def stats(self) -> dict[str, Any]:
        """Return ``requests`` per method and path, ``jobs`` per kind, and ``rows_computed``."""
        return self._get("/stats")  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Remove faults and holds, reset counts, cancel unfinished jobs, and delete all jobs."""
        self._post("/reset", None)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, path: str, params: dict[str, str] | None = None) -> Any:
        response = self._http.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def _post(self, path: str, body: Any) -> httpx.Response:
        response = self._http.post(path, json=body)
        if response.status_code >= 400:
            raise AssertionError(f"{path}: {response.status_code} {response.text}")
        return response


class LocalPlatform:
    """A local platform in a child process.

    :param data: its data folder
    :param upstream: base URL of an OpenAI-compatible engine; None uses the real local models
    :param key: its API key
    :param arguments: additional command line arguments
    :param forked: whether it is a fork of a process that has imported the platform, which saves a second
    """

    def __init__(
        self,
        data: Path,
        upstream: str | None = None,
        key: str = KEY,
        arguments: tuple[str, ...] = (),
        *,
        forked: bool = False,
    ) -> None:
        self.data = data
        self.key = key
        self.url = ""
        self.models: list[str] = []
        self._upstream = upstream
        self._arguments = arguments
        self._forked = forked
        self._process: subprocess.Popen[bytes] | Fork | None = None
        self._output: deque[str] = deque(maxlen=200)
        self._control: Control | None = None

    @property
    def control(self) -> Control:
        """Client of its control endpoints."""
        if self._control is None:
            self._control = Control(self.url, self.key)
        return self._control

    @property
    def pid(self) -> int:
        """Process id of the child."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines of its stdout and stderr."""
        return "".join(self._output)

    def client(self) -> httpx.Client:
        """Return an HTTP client that sends the API key. The caller must close it."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False)

    def start(self, port: int = 0, timeout: float = 60, limits: Mapping[int, int] | None = None) -> None:
        """Start it and wait until it is ready.

        :param port: port to bind; 0 picks a free one
        :param timeout: seconds to wait
        :param limits: limits of its resources, such as ``{resource.RLIMIT_AS: 2**31}``
        :raises PlatformDiedError: it did not become ready
        """
        arguments = ["serve", "--port", str(port), "--control", "--data", str(self.data), *self._arguments]
        if self._upstream is not None:
            arguments += ["--upstream", self._upstream]
        environment = {"LAMINI_LOCAL_KEY": self.key, "PYTHONUNBUFFERED": "1"}
        reader, writer = os.pipe()
        if self._forked:
            output = f"/proc/{os.getpid()}/fd/{writer}"
            self._process = forking_platform().start(
                SERVE, *arguments, stdout=output, stderr=output, **environment
            )
        else:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow_provider_lamini.local", *arguments],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=writer,
                stderr=writer,
            )
        os.close(writer)
        for kind, value in (limits or {}).items():
            resource.prlimit(self._process.pid, kind, (value, value))
        ready = threading.Event()
        threading.Thread(target=self._read_output, args=(reader, ready), daemon=True).start()
        deadline = time.monotonic() + timeout
        while not ready.wait(0.02):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PlatformDiedError(f"The platform did not become ready. Its output was:\n{self.log}")

    def _read_output(self, reader: int, ready: threading.Event) -> None:
        with os.fdopen(reader) as lines:
            for line in lines:
                self._output.append(line)
                if found := READY.search(line):
                    self.url, self.models = found[1], found[2].split(", ")
                    ready.set()

    def kill(self) -> None:
        """Kill it at once, like a crash."""
        self._signal(signal.SIGKILL)

    def stop(self, timeout: float = 10) -> int:
        """Stop it gracefully, or kill it after a timeout.

        :param timeout: seconds to wait
        :return: its exit status
        """
        return self._signal(signal.SIGTERM, timeout)

    def restart(self) -> None:
        """Start it again on the same port with the same data. It must have stopped."""
        assert self._process is None, "stop it first"
        port, deadline = int(self.url.rsplit(":", 1)[1]), time.monotonic() + 60
        while True:
            try:
                self.start(port)
            except PlatformDiedError:
                # Until it listens again, any process may have the port, for a connection of its own.
                if "Address already in use" not in self._output[-1] or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _signal(self, number: signal.Signals, timeout: float = 10) -> int:
        process, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout)
            raise


@contextmanager
def local_platform(
    data: Path, upstream: str | None = None, key: str = KEY, arguments: tuple[str, ...] = ()
) -> Iterator[LocalPlatform]:
    """Run a local platform with control endpoints on a free port during the block.

    :param data: its data folder
    :param upstream: base URL of an OpenAI-compatible engine, such as that of ``tests.support.upstream``; None
        uses the real local models, which must have been pulled
    :param key: its API key
    :param arguments: additional command line arguments
    """
    platform = LocalPlatform(data, upstream, key, arguments, forked=True)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()


def wait_until(condition: Any, timeout: float = 60, pause: float = 0.02) -> None:
    """Wait until a function returns a true value.

    :raises AssertionError: it did not within the timeout
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {timeout} s"
        time.sleep(pause)


async def wait_until_async(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait in a coroutine until a function returns a true value.

    :raises TimeoutError: it did not within these seconds
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition depends on another thread or process
            await asyncio.sleep(0.02)
