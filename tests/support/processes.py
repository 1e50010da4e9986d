"""Ends processes whole, whatever they forked."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import signal


def free_port() -> int:
    """A loopback port that is free now, for servers that cannot say which port they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_process(process: subprocess.Popen[bytes], with_signal: signal.Signals, grace: float) -> None:
    """Signal a process, give it time, then kill what is left of it and of everything it started.

    :param process: started with ``start_new_session=True``, so that its session is its own
    :param with_signal: what the process is sent
    :param grace: seconds that it may take to end by itself
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
            member.kill()  # refuses a process that took the number of one that ended
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _session(leader: int) -> list[psutil.Process]:
    """The processes of a session: also those whose parents have ended."""
    return [process for process in psutil.process_iter() if _session_of(process.pid) == leader]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
