"""Everything that is left of a task where others may read it, before anything is masked."""

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
class Left:
    """What is left, by where.

    :ivar texts: where, and what
    """

    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, where: str, what: object) -> None:
        """Note a thing: its text and its repr."""
        self.texts.append((where, what if isinstance(what, str) else f"{what}\n{what!r}"))

    def add_error(self, where: str, error: BaseException) -> None:
        """Note an error with all that led to it: texts, tracebacks, attributes, pickles."""
        self.add(f"{where}: traceback", "".join(traceback.format_exception(error)))
        known: set[int] = set()
        each: BaseException | None = error
        while each is not None and id(each) not in known:
            known.add(id(each))
            self.add(f"{where}: {type(each).__name__}", each)
            self.add(f"{where}: attributes of {type(each).__name__}", repr(vars(each)))
            if each is error:
                again = pickle.loads(pickle.dumps(each))
                assert (str(again), type(again)) == (str(each), type(each))
                self.add(f"{where}: pickle", pickle.dumps(each).decode("latin-1"))
                self.add(f"{where}: reduced", repr(each.__reduce__()))
            each = each.__cause__ or each.__context__

    def add_files(self, folder: Path, *, but: Iterable[str] = ()) -> None:
        """Note the files below a folder, with their names.

        :param but: patterns of files that may hold rows
        """
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                rows = any(path.match(pattern) for pattern in but)
                self.texts.append(
                    (f"rows: {path}" if rows else str(path), path.read_bytes().decode("latin-1"))
                )

    def holding(self, text: str, *, but: str = "") -> list[str]:
        """Where a text is found, as it is and as JSON or a URL holds it.

        :param but: places that begin so are left out
        """
        shapes = {text, json.dumps(text)[1:-1], text.replace(" ", "%20"), text.replace(" ", "+")}
        return [
            f"{where}: ...{what[max(0, what.find(shape) - 80) : what.find(shape) + len(shape) + 20]}..."
            for where, what in self.texts
            for shape in shapes
            if shape in what and not (but and where.startswith(but))
        ]


@contextmanager
def everything_logged(left: Left) -> Iterator[None]:
    """Note what anything logs within the block, from DEBUG on, its arguments and errors too."""
    keeper = _Keeper(left)
    with ExitStack() as stack:
        for name in ("", "airflow.task", "airflow_provider_lamini"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            stack.callback(logger.removeHandler, keeper)
            logger.addHandler(keeper)
            logger.setLevel(logging.DEBUG)
        if find_spec("structlog") is not None:  # Airflow 3 logs with it
            from structlog.testing import capture_logs

            stack.enter_context(capture_logs(processors=[keeper.keep]))
        yield


class _Keeper(logging.Handler):
    def __init__(self, left: Left) -> None:
        super().__init__(logging.DEBUG)
        self._left = left

    def keep(self, _: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a line of structlog's."""
        self._left.add("log", repr(entry))
        return entry

    def emit(self, record: logging.LogRecord) -> None:
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self._left.add("log", f"{record.name} {record.getMessage()} {record.args!r} {error}")
