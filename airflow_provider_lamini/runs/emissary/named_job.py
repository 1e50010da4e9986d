"""Jobs that are found again by their names in the platform's list."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import NotFoundError, PlatformError
from airflow_provider_lamini.platforms.emissary.api import projects
from airflow_provider_lamini.runs.job_spec import JobSpec, OrphanSearch, Prepared, find_new_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun

LIST_DELAY = 20.0
"""Seconds until something that was just created is in the platform's list."""


class NamedJob(JobSpec[dict[str, object]]):
    """A job with a name: the user's, or one that no other submission has.

    :param task: this try of the task
    :param name: the user's name for it; ``None`` for one of the submission
    :param list_delay: seconds until something that was just created is in the platform's list
    """

    def __init__(self, task: TaskRun, name: str | None, list_delay: float = LIST_DELAY) -> None:
        self._task = task
        self._name = name
        self._list_delay = list_delay

    @abstractmethod
    def listed(self) -> Iterable[tuple[str, str | None]]:
        """The ids and names of all jobs that the platform lists beside this one."""

    def named(
        self, mark: str, create: Callable[[str], str], numbers: Mapping[str, int] | None = None
    ) -> Prepared:
        """The job, ready to be created; for `prepare`.

        :param mark: the submission's, for a name that no other job has
        :param create: creates the job under a name, and returns its id
        :param numbers: what the record keeps for the result
        """
        name = self._name or mark
        return Prepared(create=partial(create, name), before=self._with_name(name), numbers=numbers or {})

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:
        if submission.before is None:
            return OrphanSearch.NOT_STARTED  # the list is read before the job is created
        name = self._name or submission.mark
        return find_new_job(partial(self._with_name, name), submission.before, self._list_delay)

    def advice_after_vanishing(self, job_id: str) -> str:
        project_id, slash, _ = job_id.partition("/")
        if slash and not project_exists(self._task, project_id):
            return (
                f"Its project {project_id} no longer exists: somebody has deleted it with everything in it. Create a project, "
                "then clear the tasks that filled it."
            )
        return super().advice_after_vanishing(job_id)

    def _with_name(self, name: str) -> dict[str, bool]:
        """The ids of the jobs with a name, of which a single new one is the task's."""
        return {job_id: True for job_id, listed_name in self.listed() if listed_name == name}


def project_exists(task: TaskRun, project_id: str) -> bool:
    """Whether the platform knows a project; true if it cannot be asked.

    :param task: this try of the task
    :param project_id: the project
    """
    try:
        task.hook.send(projects.project(project_id))
    except NotFoundError:
        return False
    except PlatformError:
        return True
    return True
