"""Which ended jobs a watcher has reported: a watermark for jobs that end in any order."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from airflow_provider_lamini.jobs.state import JobStatus

DIGEST_SIZE = 6
"""Bytes of a job's digest."""
MAX_STORED = 7000
"""Maximum number of jobs whose digests are stored: 56,000 characters, which Airflow's state store takes."""
_FORM = "1:"
"""Form of the text: its version, and the digests in base64."""


class KnownJobs:
    """The ended jobs that need not be reported any more.

    :param digests: their digests; ``None`` before the first poll, which knows all that have ended before it
    """

    def __init__(self, digests: set[bytes] | None) -> None:
        self._digests = digests

    @classmethod
    def from_text(cls, text: object) -> Self:
        """Read what `to_text` returned.

        :param text: the text; anything else is a watcher's first start
        """
        if not isinstance(text, str) or not text.startswith(_FORM):
            return cls(None)
        data = base64.b64decode(text.removeprefix(_FORM))
        return cls({data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)})

    def to_text(self) -> str | None:
        """The known jobs as a text; ``None`` if they are too many, or none were read yet."""
        if self._digests is None or len(self._digests) > MAX_STORED:
            return None
        return _FORM + base64.b64encode(b"".join(sorted(self._digests))).decode()

    def new(self, statuses: Mapping[str, JobStatus]) -> list[JobStatus]:
        """The jobs that have ended and are not known. A job that runs again is forgotten, so that its next end is reported.

        :param statuses: all jobs
        """
        by_digest = {_digest(job_id): status for job_id, status in statuses.items()}
        ended = {digest for digest, status in by_digest.items() if status.state.ended}
        known = ended.copy() if self._digests is None else self._digests - (by_digest.keys() - ended)
        if (
            len(known) > MAX_STORED
        ):  # as few as possible: those that the platform no longer lists cannot be reported again
            known &= ended
        self._digests = known
        return [status for digest, status in by_digest.items() if digest in ended and digest not in known]

    def add(self, status: JobStatus) -> None:
        """Know one more job.

        :param status: the job
        """
        if self._digests is not None:
            self._digests.add(_digest(status.job_id))


def _digest(job_id: str) -> bytes:
    return hashlib.blake2b(job_id.encode(), digest_size=DIGEST_SIZE).digest()
