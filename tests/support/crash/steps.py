"""Name the steps of a process at which a crash could matter, and kill the process at one of them.

The interpreter's profile hook reports each call and return, so the watched code is unchanged. The names contain the request
or file (``POST /v1/train is about to be sent``, ``_ledger.json (intend) is complete, not yet renamed``), so a new request or file
makes a new step.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    Namer = Callable[[FrameType, Any], str | None]
    """Returns the name of a step from the frame and its return value; ``None`` for no step."""

PACKAGE = "airflow_provider_lamini"
RUNS = f"{os.sep}{PACKAGE}{os.sep}runs{os.sep}"
WORK = {
    "find_orphaned_job": "looks for its job",
    "result": "reads the result",
    "on_bad_end": "decides on a bad end",
}
"""Methods of a job's specification that are steps wherever they are defined."""


def plain(name: str) -> str:
    """Replace the parts of a path that differ between runs."""
    name = re.sub(r"[0-9a-f]{32}|examples-[0-9a-f]{16}", "*", name)
    return re.sub(r"\d+", "N", re.sub(r"(?<=/)[\w-]*\d[\w-]*(?=/|$)(?<!/v\d)", "*", name))


def request(method: str, path: str) -> str:
    """Return the name of a request without ids."""
    parts = [part if re.fullmatch(r"v\d\w*|[a-z_-]+", part) else "*" for part in path.split("/") if part]
    return f"{method} /{'/'.join(parts)}"


class Watch:
    """Records steps as they occur.

    :param kill: step to die at: its name, and how often it occurred before
    :param at_call: number of the function call to die at
    """

    def __init__(self, kill: tuple[str, int] | None = None, at_call: int | None = None) -> None:
        self._kill = kill
        self._at_call = at_call
        self._seen: dict[str, int] = {}
        self._calls = 0
        self.steps: list[str] = []
        self._before: dict[CodeType, Namer] = {}
        self._after: dict[CodeType, Namer] = {}
        self._store_write: CodeType | None = None
        self._requests: dict[int, str] = {}

    @property
    def calls(self) -> int:
        """Number of function calls so far."""
        return self._calls

    def learn(self) -> None:
        """Find the provider's functions that are steps.

        :raises AttributeError: a function was renamed, so the harness must be updated
        """
        transfer = _of("api.transfer", "Transfer.build"), _of("api.transfer", "Transfer.begin")
        self._after[transfer[0]] = self._built
        self._before[transfer[1]] = self._begun
        self._after[_of("api.client", "Client.send")] = lambda frame, _: (
            f"{request(frame.f_locals['call'].method, frame.f_locals['call'].path)} is read"
        )
        store = "rows.storage.local"
        self._store_write = _of(store, "LocalStore.write")
        self._before[self._store_write] = lambda frame, _: f"{self._file(frame)} is about to be written"
        self._after[self._store_write] = lambda frame, _: f"{self._file(frame)} is written"
        self._before[_of(store, "LocalStore.delete")] = lambda frame, _: (
            f"{_name(frame)} is about to be removed"
        )
        self._after[_of(store, "LocalStore.delete")] = lambda frame, _: f"{_name(frame)} is removed"
        code = _of("runs.submission_record", "TaskStateRecord.write")
        self._before[code] = lambda frame, _: f"the task state{_record(frame)} is about to be written"
        self._after[code] = lambda frame, _: f"the task state{_record(frame)} is written"
        self._before[_of("runs.submission_record", "TaskStateRecord.forget")] = _constant(
            "the task state is about to be removed"
        )
        self._before[_of("runs.submitted_job", "SubmittedJob._submit")] = _constant("the task submits")
        self._before[_of("operators.base", "run_work")] = lambda frame, _: (
            "the task starts" if frame.f_locals["event"] is None else "the task resumes"
        )
        self._before[_of("runs.task", "TaskRun.trigger")] = _constant("the task is about to defer")
        self._before[_of("operators.upload_dataset", "LaminiUploadDatasetOperator.execute")] = _constant(
            "the task starts"
        )
        self._before[_of("triggers.job", "JobTrigger.run")] = _constant("the trigger runs")

    def _built(self, frame: FrameType, made: Any) -> str:
        if not made:
            return ""
        name = self._requests[id(frame.f_locals["self"])] = request(made.method, made.url.path)
        return f"{name} is about to be sent"

    def _begun(self, frame: FrameType, _: Any) -> str:
        transfer = frame.f_locals["self"]
        # A status request that bypassed httpx was not built, but has a path.
        return f"{self._requests.get(id(transfer)) or request('GET', transfer.path)} is answered"

    def start(self) -> None:
        """Watch this thread and its new threads."""
        threading.setprofile(self._on)
        sys.setprofile(self._on)

    def stop(self) -> None:
        """Stop watching."""
        sys.setprofile(None)
        threading.setprofile(None)

    def passed(self, step: str) -> None:
        """Record a step, and die if it is the one to die at."""
        before = self._seen.get(step, 0)
        self._seen[step] = before + 1
        self.steps.append(step)
        if self._kill == (step, before):
            die()

    def _on(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self._calls += 1
            if self._calls == self._at_call:
                die()
            namer = self._before.get(frame.f_code)
            if namer is not None:
                self._note(namer(frame, None))
            elif RUNS in frame.f_code.co_filename and frame.f_code.co_name in WORK:
                self._note(f"the task {WORK[frame.f_code.co_name]}")
        elif event == "return":
            namer = self._after.get(frame.f_code)
            if namer is not None:
                self._note(namer(frame, arg))
        elif event == "c_call" and arg is os.replace:
            store = _caller(frame, self._store_write)
            if store is not None:
                self._note(f"{self._file(store)} is complete, not yet renamed")

    def _note(self, step: str | None) -> None:
        if step:
            self.passed(step)

    def _file(self, frame: FrameType) -> str:
        name = _name(frame)
        if name != "_ledger.json":
            return f"{name}{_record(frame)}"
        above: FrameType | None = frame
        change = ""
        while above is not None:
            if above.f_code.co_qualname == "Ledger.transaction":
                change = _changes(above)
            elif above.f_code.co_qualname.startswith("Ledger."):
                change = above.f_code.co_name.strip("_")
            above = above.f_back
        return f"{name} ({change})"


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def _of(module: str, name: str) -> CodeType:
    found: Any = import_module(f"{PACKAGE}.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    code: CodeType = getattr(found, "__wrapped__", found).__code__
    return code


def _changes(frame: FrameType) -> str:
    """Return what a ledger transaction changes."""
    before, change = frame.f_locals["before"], frame.f_locals["change"]
    after = change.document
    changes = {
        "begin_try": after.try_started_at != before.try_started_at,
        "finish": after.totals != before.totals,
        "extend": after.header.total_rows > before.header.total_rows,
        "plan": after.planned != before.planned,
        "intend": change.durable,
        "split": len(_pieces(after)) > len(_pieces(before)),
        "settle": sum(piece.done for piece in _pieces(after)) > sum(piece.done for piece in _pieces(before)),
    }
    return ", ".join(name for name, is_changed in changes.items() if is_changed)


def _pieces(document: Any) -> list[Any]:
    return [piece for chunk in document.open for each in chunk.rounds for piece in each.pieces]


def _constant(step: str) -> Namer:
    return lambda _, __: step


def _name(frame: FrameType) -> str:
    return plain(os.path.basename(frame.f_locals["path"]))  # noqa: PTH119 - pathlib would call watched functions


def _record(frame: FrameType) -> str:
    """Describe the change of a submission record, if this is one."""
    above: FrameType | None = frame
    while above is not None:
        submission = above.f_locals.get("submission") if above.f_code.co_name == "write" else None
        if submission is not None:
            attached = " (attached)" if submission.attached_at else " (id)"
            return attached if submission.job_id is not None else " (intent)"
        above = above.f_back
    return ""


def _caller(frame: FrameType, code: CodeType | None) -> FrameType | None:
    above: FrameType | None = frame
    while above is not None:
        if above.f_code is code:
            return above
        above = above.f_back
    return None
