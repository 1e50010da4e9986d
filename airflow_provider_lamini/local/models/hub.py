"""Model files from a hub over HTTP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import tenacity

from airflow_provider_lamini.local.models.errors import PullFailed
from airflow_provider_lamini.local.models.files import BLOCK, write_checked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_provider_lamini.local.models.catalogue import ModelFile
    from airflow_provider_lamini.local.models.progress import Progress

ENDPOINT_ENV = "HF_ENDPOINT"
ENDPOINT_DEFAULT = "https://huggingface.co"
TOKEN_ENV = "HF_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT = 60.0
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """Files of one repository on a hub that serves ``OWNER/REPO/resolve/REVISION/FILE``.

    The hub's address comes from ``HF_ENDPOINT``, a token for private repositories from ``HF_TOKEN``.

    :param repo: ``OWNER/REPO``
    :param file: path in the repository of the first wanted file; ``None`` takes each by its name
    :param revision: branch, tag or commit
    """

    repo: str
    file: str | None = None
    revision: str = "main"

    @property
    def description(self) -> str:
        """What it is, for messages and receipts."""
        return f"hub:{self.repo}@{self.revision}" + (f"/{self.file}" if self.file else "")

    def fetch(self, wanted: Sequence[ModelFile], into: Path, progress: Progress) -> None:
        """Download the files.

        :param wanted: the files
        :param into: an empty folder
        :param progress: gets one step per file
        :raises PullFailed: the hub refused, or could not be reached
        :raises ChecksumMismatch: a file is not the one that is pinned
        """
        for number, file in enumerate(wanted):
            remote = self.file if self.file and number == 0 else file.name
            self._download(remote, file, into / file.name, progress)

    def _download(self, remote: str, wanted: ModelFile, target: Path, progress: Progress) -> None:
        base = (os.environ.get(ENDPOINT_ENV) or ENDPOINT_DEFAULT).rstrip("/")
        url = f"{base}/{self.repo}/resolve/{self.revision}/{remote}"
        # A compressed answer would not tell its length.
        headers = {"Accept-Encoding": "identity"}
        if token := os.environ.get(TOKEN_ENV):
            headers["Authorization"] = f"Bearer {token}"
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_passing),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            reraise=True,
        )
        try:
            with httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers=headers) as client:
                for attempt in retrying:
                    with attempt:
                        _stream(client, url, wanted, target, progress)
        except httpx.HTTPStatusError as error:
            raise PullFailed(_refusal(error.response.status_code, f"{self.repo}/{remote}", base)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PullFailed(
                f"{self.repo}/{remote} could not be downloaded from {base}: {error or type(error).__name__}. "
                f"Check the network, or set {ENDPOINT_ENV} to a hub that this machine reaches."
            ) from error


def _stream(client: httpx.Client, url: str, wanted: ModelFile, target: Path, progress: Progress) -> None:
    with client.stream("GET", url) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        progress.start(f"Downloading {wanted.name}", int(length) if length.isdecimal() else wanted.size)
        write_checked(response.iter_bytes(BLOCK), target, wanted, progress)
        progress.end()


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or (
            error.response.status_code == httpx.codes.TOO_MANY_REQUESTS
        )
    return isinstance(error, httpx.TransportError)


def _refusal(status: int, what: str, base: str) -> str:
    match status:
        case httpx.codes.UNAUTHORIZED | httpx.codes.FORBIDDEN:
            return f"{base} keeps {what} private ({status}): set {TOKEN_ENV} to a token that may read it."
        case httpx.codes.NOT_FOUND:
            return f"{base} has no {what} (404): check owner, repository, file name and revision."
        case _:
            return f"{base} answered {status} for {what}: try again later."
