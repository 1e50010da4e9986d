"""Starts the stub of a platform and talks to its control."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).with_name("server.py")


@dataclass(frozen=True)
class Stub:
    """A stub that runs.

    :param url: its address
    :param authority: the certificate to trust, where it speaks TLS
    """

    url: str
    authority: str | None = None

    def control(self, what: str, **given: int) -> dict[str, Any]:
        """Tell the stub something: ``jobs``, ``end``, ``reset``, or ``stats`` for nothing.

        :returns: what it has counted
        """
        body = json.dumps(given).encode()
        request = Request(f"{self.url}/_stub/{what}", data=body, method="POST")
        context = ssl.create_default_context(cafile=self.authority) if self.authority else None
        with urlopen(request, timeout=60, context=context) as answer:
            counted: dict[str, Any] = json.load(answer)
        return counted

    def connection(self) -> str:
        """An Airflow connection to it, for an environment variable."""
        return json.dumps({"conn_type": "lamini", "host": self.url, "password": "no-secret"})


@contextmanager
def running_stub(*, seconds: float = 5.0, rows: int = 100, tls: bool = False) -> Iterator[Stub]:
    """A stub in a process of its own.

    :param seconds: how long a submitted batch runs
    :param rows: rows of a batch that was not submitted
    :param tls: whether it speaks TLS, as real platforms do
    """
    command = [sys.executable, "-I", str(SERVER), "--seconds", str(seconds), "--rows", str(rows)]
    with tempfile.TemporaryDirectory() as folder:
        authority = None
        if tls:
            trusted = Authority(Path(folder) / "authority.pem")
            command += ["--certificate", str(trusted.issue(Path(folder) / "stub.pem"))]
            authority = str(trusted.path)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                yield Stub(f"{'https' if tls else 'http'}://127.0.0.1:{port}", authority)
            finally:
                process.kill()
