"""Collect everything that a task writes where others can read it, before Airflow masks it."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping
    from pathlib import Path


@dataclass
class Traces:
    """Texts that a task has written or raised.

    :ivar texts: pairs of a location and a text
    """

    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, location: str, item: object) -> None:
        """Collect an object's str and repr."""
        self.texts.append((location, item if isinstance(item, str) else f"{item}\n{item!r}"))

    def add_error(self, location: str, error: BaseException) -> None:
        """Collect texts, tracebacks, attributes and pickles of an error and its causes."""
        self.add(f"{location}: traceback", "".join(traceback.format_exception(error)))
        seen: set[int] = set()
        cause: BaseException | None = error
        while cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            self.add(f"{location}: {type(cause).__name__}", cause)
            self.add(f"{location}: attributes of {type(cause).__name__}", repr(vars(cause)))
            if cause is error:
                copy = pickle.loads(pickle.dumps(cause))
                assert (str(copy), type(copy)) == (str(cause), type(cause))
                self.add(f"{location}: pickle", pickle.dumps(cause).decode("latin-1"))
                self.add(f"{location}: reduced", repr(cause.__reduce__()))
            cause = cause.__cause__ or cause.__context__

    def add_files(self, folder: Path, *, skip: Iterable[str] = ()) -> None:
        """Collect the files below a folder.

        :param skip: patterns of files that may contain rows
        """
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                rows = any(path.match(pattern) for pattern in skip)
                self.texts.append(
                    (f"rows: {path}" if rows else str(path), path.read_bytes().decode("latin-1"))
                )

    def find(self, text: str, *, skip: str = "") -> list[str]:
        """Return where a text occurs, also as part of JSON or a URL.

        :param skip: prefix of locations to skip
        """
        forms = {text, json.dumps(text)[1:-1], text.replace(" ", "%20"), text.replace(" ", "+")}
        return [
            f"{location}: ...{found[max(0, found.find(form) - 80) : found.find(form) + len(form) + 20]}..."
            for location, found in self.texts
            for form in forms
            if form in found and not (skip and location.startswith(skip))
        ]


@contextmanager
def collect_logs(traces: Traces) -> Iterator[None]:
    """Collect all log records of the block from DEBUG on, with their arguments and errors."""
    handler = _Handler(traces)
    with ExitStack() as stack:
        for name in ("", "airflow.task", "airflow_provider_lamini"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            stack.callback(logger.removeHandler, handler)
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        if find_spec("structlog") is not None:  # Airflow 3 logs with it
            from structlog.testing import capture_logs

            stack.enter_context(capture_logs(processors=[handler.add_entry]))
        yield


class _Handler(logging.Handler):
    def __init__(self, traces: Traces) -> None:
        super().__init__(logging.DEBUG)
        self._traces = traces

    def add_entry(self, _: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Collect a log entry of structlog."""
        self._traces.add("log", repr(entry))
        return entry

    def emit(self, record: logging.LogRecord) -> None:
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self._traces.add("log", f"{record.name} {record.getMessage()} {record.args!r} {error}")
