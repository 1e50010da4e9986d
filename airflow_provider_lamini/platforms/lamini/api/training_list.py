"""The list of all tuning jobs, read piece by piece: it grows over the years, and few of its jobs matter.

A whole list of 100,000 jobs takes a second to turn into models, and a tenth of one even to decode, in which nothing
else in the process gets a turn. So it is decoded in pieces between which others can, only fields that matter are
looked at, and only the jobs that are asked for become models.
"""

import re
from collections.abc import Container, Iterator

import msgspec

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.platforms.lamini.api.training import TrainJob

PIECE = 65_536
"""Bytes that are decoded in one go."""

_KEYS = ("jobs", "data")
_HEAD = re.compile(
    rb'\s*(?:\{\s*"(?:jobs|data)"\s*:\s*)?\[\s*\{\s*("(?:[^"\\]|\\.)*")',
)
"""The beginning of a list, bare or in an object, up to the name of its first job's first field."""


class _Listed(msgspec.Struct):
    """The fields that matter. Of any form: one strange old job must not make the list unreadable."""

    job_id: object = None
    status: object = None
    model_name: object = None
    history: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    resume_count: object = None
    resume_limit: object = None
    detail: object = None


class TrainJobList:
    """An answer with all tuning jobs, not read yet.

    :param content: the answer's body
    :param piece: bytes that are decoded in one go, or a little more
    :raises ValueError: where it is no list of jobs, as far as its beginning shows
    """

    def __init__(self, content: bytes, piece: int = PIECE) -> None:
        if content.lstrip()[:1] not in (b"[", b"{", b"n"):  # null is no jobs
            raise ValueError("a list of jobs was expected")
        self._content = content
        self._piece = piece

    def __len__(self) -> int:
        """Its size in bytes."""
        return len(self._content)

    def only(self, job_ids: Container[str]) -> Iterator[list[TrainJob]]:
        """Read some of the jobs, a piece of the list at a time.

        :param job_ids: the jobs that matter
        :returns: for each piece the jobs of these that it holds; a job that cannot be read is left out
        :raises ValueError: where a piece is no list of jobs
        """
        for piece in self._pieces():
            yield [job for each in piece if (job := _wanted(each, job_ids)) is not None]

    def _pieces(self) -> Iterator[list[_Listed]]:
        content, start, size = self._content, 0, self._piece
        head = _HEAD.match(content)
        opening = b"["
        if head is not None:
            start = content.index(b"[") + 1
            opening = content[:start]
            # Jobs of one list begin with the same field, and what a job holds mostly does not. Where it does,
            # the piece is cut within a job, cannot be decoded, and is made longer.
            between = re.compile(rb"\}\s*(,)\s*\{\s*" + re.escape(head[1]))
            while (cut := between.search(content, start + size)) is not None:
                try:
                    piece = schema.decode_as(b"[" + content[start : cut.start(1)] + b"]", list[_Listed])
                except ValueError:
                    size *= 2
                    continue
                yield piece
                start, size = cut.end(1), self._piece
        rest = schema.find_items(schema.decode(opening + content[start:] if start else content), *_KEYS)
        yield schema.decode_as(msgspec.json.encode(rest), list[_Listed])


def list_unread() -> Call[TrainJobList]:
    """List all tuning jobs of the key, to be read in pieces: ``GET /v1/train/jobs``."""
    return Call(
        operation="train_jobs_get",
        method="GET",
        path="/v1/train/jobs",
        parse=TrainJobList,
        retry=Retry.SAFE,
    )


def _wanted(listed: _Listed, job_ids: Container[str]) -> TrainJob | None:
    if str(listed.job_id) not in job_ids:
        return None
    given = msgspec.structs.asdict(listed) | {"history": schema.decode(bytes(listed.history))}
    try:
        return schema.validate(TrainJob, given)
    except ValueError:
        return None
