"""What a platform's endpoint for rows must offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult


@runtime_checkable
class JobEndpoint(Protocol):
    """An endpoint that takes many prompts as a job."""

    kind: str
    """Name of the kind of its jobs."""
    reports_tokens: bool
    """Whether results may say how many tokens they took."""

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        """Start a job.

        :param prompts: the prompts
        :return: a call that returns the job's id
        """
        ...

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        """Fetch the results of an ended job.

        :param job_id: the platform's id
        :param rows: number of its prompts
        :return: a call that returns the results in the order of the prompts
        """
        ...


class DirectEndpoint(Protocol):
    """An endpoint that answers prompts directly."""

    per_request: int
    """Maximum number of prompts per request."""
    reports_tokens: bool
    """Whether answers may say how many tokens they took."""

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """Send prompts and return their results.

        :param prompts: 1 to ``per_request`` prompts
        :return: a call that returns one result per prompt, in the same order
        """
        ...


@runtime_checkable
class ServedEndpoint(DirectEndpoint, Protocol):
    """An endpoint with a model that may stop answering, so that a refused row need not be the cause."""

    def outage(self) -> Call[str | None]:
        """Ask why no row can be answered.

        :return: a call that returns the reason and what to do, as sentences; ``None`` if rows can be answered
        """
        ...
