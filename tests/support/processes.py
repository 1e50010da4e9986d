"""Stop processes together with everything that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.support.forks import Fork


def unwind_on_sigterm() -> None:
    """Let a SIGTERM end this process as Ctrl+C does, so that its folders are removed and its children are ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def free_port() -> int:
    """Return a free loopback port, for servers that cannot report the port they picked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_process(process: subprocess.Popen[bytes] | Fork, with_signal: signal.Signals, grace: float) -> None:
    """Signal a process, wait, then kill it and everything it started.

    :param process: process that leads a session
    :param with_signal: signal to send
    :param grace: seconds to wait before the kill
    """
    family = _family(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    family += _session(process.pid)
    for member in family:
        try:
            member.kill()  # psutil does not kill another process that reuses the id
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _session(leader: int) -> list[psutil.Process]:
    """The processes of a session, including those whose parents exited."""
    return [process for process in psutil.process_iter() if _session_of(process.pid) == leader]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
