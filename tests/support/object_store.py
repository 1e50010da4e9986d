"""An object store in memory, whose operations can fail."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FaultyStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store in memory. A test can make operations fail before they have an effect."""

    cachable = False
    keeps_to_conditions = True
    """Whether an object that exists is not created again. Some stores accept the condition and ignore it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._targets: list[str] = []
        self._faults: dict[str, list[Exception | None]] = {}
        self._condition: tuple[str, Callable[[], bool], Exception] | None = None

    def fail(self, operation: str, *outcomes: Exception | None) -> None:
        """Make an operation fail.

        :param operation: ``cat_file``, ``pipe_file``, ``rm_file``, ``open``, ``info`` or ``ls``
        :param outcomes: for each of its next calls an error, or ``None`` if it succeeds
        """
        self._faults[operation] = list(outcomes)

    def fail_while(self, operation: str, condition: Callable[[], bool], error: Exception) -> None:
        """Make an operation fail as long as a condition holds.

        :param operation: ``cat_file``, ``pipe_file``, ``rm_file``, ``open``, ``info`` or ``ls``
        :param condition: called at each operation
        :param error: the error
        """
        self._condition = operation, condition, error

    def cat_file(self, *args: Any, **kwargs: Any) -> bytes:
        self._called("cat_file", args[0])
        content: bytes = super().cat_file(*args, **kwargs)
        return content

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self._called("pipe_file", path)
        if not self.keeps_to_conditions:
            kwargs.pop("mode", None)
        super().pipe_file(path, value, **kwargs)

    def rm_file(self, *args: Any, **kwargs: Any) -> None:
        self._called("rm_file", args[0])
        super().rm_file(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> Any:
        self._called("open", args[0])
        return super().open(*args, **kwargs)

    def info(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._called("info", args[0])
        info: dict[str, Any] = super().info(*args, **kwargs)
        return info

    def ls(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._called("ls", path)
        return super().ls(path, *args, **kwargs)

    def calls_of(self, operation: str, name: str) -> list[str]:
        """Return the paths of the calls of an operation whose files' names begin so.

        :param operation: as in `fail`
        :param name: how a file's name begins
        """
        both = zip(self.calls, self._targets, strict=True)
        return [
            path for called, path in both if called == operation and path.rpartition("/")[2].startswith(name)
        ]

    def _called(self, operation: str, path: str) -> None:
        self.calls.append(operation)
        self._targets.append(path)
        if self._condition and self._condition[0] == operation and self._condition[1]():
            raise self._condition[2]
        outcomes = self._faults.get(operation)
        if outcomes and (error := outcomes.pop(0)) is not None:
            raise error


def refusal(code: str) -> PermissionError:
    """Return the error of S3 for refused credentials.

    :param code: S3's code for the reason
    """
    cause = OSError(code)
    cause.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
    error = PermissionError(code)
    error.__cause__ = cause
    return error


@pytest.fixture
def object_store() -> Iterator[FaultyStore]:
    """An empty store behind ``memory://``, registered with Airflow like that of a provider."""
    try:
        stores = import_module("airflow.sdk.io.store")
    except ImportError:
        stores = import_module("airflow.io.store")
    files = FaultyStore()
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    # Airflow keeps what was attached first.
    earlier = stores._STORE_CACHE.pop("memory", None)
    stores.attach("memory", fs=files)
    yield files
    stores._STORE_CACHE.pop("memory")
    if earlier is not None:
        stores._STORE_CACHE["memory"] = earlier
