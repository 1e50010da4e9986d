"""The local platform as a child process, for any test that needs a platform to talk to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-for-tests"
READY = re.compile(r"lamini-local: serving (http://\S+) \(models: (.*)\)")


class PlatformDiedError(Exception):
    """The platform ended or did not become ready; the message holds what it said last."""


class Control:
    """The control endpoints of a platform.

    :param url: the platform's base URL
    :param key: its key
    """

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/_control",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
        )

    def fault(self, path: str, **how: Any) -> None:
        """Let requests whose whole path fits a regular expression go wrong.

        :param path: such as ``/v1/batch_completions`` or ``/v1/batch_completions/.*/result``
        :param how: ``method``, ``skip``, ``times`` (None for all), ``when`` (``before`` or ``after`` the
            work), ``delay``, ``status``, ``headers``, ``body``, ``truncate``, ``drop``
        """
        self._post("/faults", {"path": path, **how})

    def faults(self) -> list[dict[str, Any]]:
        """The faults, each with the number of requests that it ``hits``."""
        return self._get("/faults")  # type: ignore[no-any-return]

    def clear_faults(self) -> None:
        """Let everything go right again."""
        self._http.delete("/faults").raise_for_status()

    def loading(self, seconds: float, model_name: str | None = None) -> None:
        """Make a model (every model) count as loading for so long."""
        self._post("/loading", {"seconds": seconds, "model_name": model_name})

    def row_fault(self, contains: str, times: int | None = 1) -> None:
        """Let so many rows fail whose prompt contains a text; None is all."""
        self._post("/row-faults", {"contains": contains, "times": times})

    def hold(self, kind: str | None = None, job_id: str | None = None, after_rows: int = 0) -> None:
        """Keep jobs from starting further rows, once so many are begun."""
        self._post("/holds", {"kind": kind, "job_id": job_id, "after_rows": after_rows})

    def release(self) -> None:
        """Let held jobs go on."""
        self._http.delete("/holds").raise_for_status()

    def upload_base(self, base: str) -> None:
        """Let datasets come in as ``local`` or ``azure`` from now on, until the next reset."""
        self._post("/upload-base", {"base": base})

    def jobs(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Jobs, oldest first: id, kind, state, detail, total, done, computed_here, runs, created, ended."""
        return self._get("/jobs", {"kind": kind} if kind else {})  # type: ignore[no-any-return]

    def end(self, job_id: str, state: str, detail: str | None = None) -> bool:
        """End a job as ``failed``, ``cancelled``, ``timed out``, ``succeeded`` or ``partly succeeded``."""
        return bool(self._post(f"/jobs/{job_id}/end", {"state": state, "detail": detail}).json()["ended"])

    def stats(self) -> dict[str, Any]:
        """``requests`` per method and path, ``jobs`` per kind, ``rows_computed``."""
        return self._get("/stats")  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget faults, holds, counts and jobs; those that live are cancelled."""
        self._post("/reset", None)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, path: str, params: dict[str, str] | None = None) -> Any:
        answer = self._http.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    def _post(self, path: str, body: Any) -> httpx.Response:
        answer = self._http.post(path, json=body)
        if answer.status_code >= 400:
            raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
        return answer


class LocalPlatform:
    """A local platform in a child process.

    :param data: its folder
    :param upstream: base URL of an OpenAI-compatible engine; None uses the real local models
    :param key: its key
    :param arguments: more command line arguments
    """

    def __init__(
        self, data: Path, upstream: str | None = None, key: str = KEY, arguments: tuple[str, ...] = ()
    ) -> None:
        self.data = data
        self.key = key
        self.url = ""
        self.models: list[str] = []
        self._upstream = upstream
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=200)
        self._control: Control | None = None

    @property
    def control(self) -> Control:
        """Its control endpoints."""
        if self._control is None:
            self._control = Control(self.url, self.key)
        return self._control

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said last, on both outputs."""
        return "".join(self._said)

    def client(self) -> httpx.Client:
        """An HTTP client that sends the key; close it."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def start(self, port: int = 0, timeout: float = 60) -> None:
        """Start it and wait until it is ready.

        :param port: port to bind; 0 takes a free one
        :param timeout: seconds to wait
        :raises PlatformDiedError: it did not become ready
        """
        command = [sys.executable, "-m", "airflow_provider_lamini.local", "serve", "--port", str(port)]
        command += ["--control", "--data", str(self.data), *self._arguments]
        if self._upstream is not None:
            command += ["--upstream", self._upstream]
        environment = {**os.environ, "LAMINI_LOCAL_KEY": self.key, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(self._process, ready), daemon=True).start()
        deadline = time.monotonic() + timeout
        while not ready.wait(0.02):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PlatformDiedError(f"The platform is not ready; it said:\n{self.log}")

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._said.append(line)
                if found := READY.search(line):
                    self.url, self.models = found[1], found[2].split(", ")
                    ready.set()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._signal(signal.SIGKILL)

    def stop(self, timeout: float = 10) -> int:
        """End it kindly, then by force.

        :returns: its exit status
        """
        return self._signal(signal.SIGTERM, timeout)

    def restart(self) -> None:
        """Start it again on the same port with the same data; it must have ended."""
        assert self._process is None, "end it first"
        self.start(port=int(self.url.rsplit(":", 1)[1]))

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
    """Start a local platform with its control endpoints on a free port, and end it afterwards.

    :param data: its folder
    :param upstream: base URL of an OpenAI-compatible engine, such as ``tests.support.upstream`` serves; None
        uses the real local models, which must have been pulled
    :param key: its key
    :param arguments: more command line arguments
    """
    platform = LocalPlatform(data, upstream, key, arguments)
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()


def wait_until(true: Any, timeout: float = 60, pause: float = 0.02) -> None:
    """Wait until a function returns something true.

    :raises AssertionError: it did not in time
    """
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not true within {timeout} s"
        time.sleep(pause)
