"""Long lists of jobs, parsed cheaply: they grow over the years, and few of their jobs matter.

Turning a list of 100,000 jobs into models takes a second, in which nothing else on the event loop runs. So only the
fields that matter are decoded, and only the requested jobs are looked at any further, a batch at a time.
"""

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Generic, TypeVar

J = TypeVar("J")

BATCH = 1000
"""Jobs in one step."""


class JobList(Generic[J]):
    """A list of jobs in a response.

    :param size: bytes of the response
    :param jobs: the jobs, decoded to the fields that matter
    :param id_of: returns a job's id
    """

    def __init__(self, size: int, jobs: list[J], id_of: Callable[[J], object]) -> None:
        self._size = size
        self._jobs = jobs
        self._id_of = id_of

    def __len__(self) -> int:
        """Size of the response in bytes."""
        return self._size

    def only(self, job_ids: Container[str]) -> Iterator[list[J]]:
        """Yield some of the jobs in batches.

        :param job_ids: the jobs that matter
        """
        listed = (job for job in self._jobs if str(self._id_of(job)) in job_ids)
        while batch := list(islice(listed, BATCH)):
            yield batch
