"""Having the platform download a model from a hub."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.lamini.api import models
from airflow_provider_lamini.platforms.lamini.kinds import MODEL_DOWNLOAD, state_of
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task_errors import lost_error

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDownload:
    """The download of a model; a `Work`. Repeating the request does no harm, so there is no record of it.

    :param task: this try of the task
    :param model_name: the model's name on the hub
    :param model_type: ``transformer`` or ``embedding``
    :param hub_conn_id: the connection whose password is the hub's token; ``None`` for a public model
    :param wait: wait until the model is available
    """

    task: TaskRun
    model_name: str
    model_type: str
    hub_conn_id: str | None
    wait: bool

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Request the model, then judge how its download ended.

        :param event: how the download ended; ``None`` at the start of a try
        :raises JobError: if it did not succeed
        """
        if event is None:
            return self._request()
        for name, lost in event.lost.items():
            raise lost_error(lost, f"The download of {name} may still run and bill; a retry polls it again.")
        ((name, ended),) = event.ended.items()
        if ended.state is not JobState.SUCCEEDED:
            reason = f": {ended.detail}" if ended.detail else ""
            raise JobFailedError(
                f"The download of {name} ended as {ended.raw}{reason}. A retry requests it again."
            )
        return Done(self._result(name, ended.raw))

    def on_deadline(self, event: JobEvent) -> str:
        """The platform cannot cancel a download.

        :param event: how the download stands
        """
        name = ", ".join(event.pending) or self.model_name
        return f"The download of {name} may still run and bill; a retry attaches to it."

    def close(self) -> None:
        """Nothing is open between two steps."""

    def _request(self) -> WaitFor | Done[dict[str, object]]:
        answer = self.task.hook.send(models.download(self.model_name, self.model_type, self._token()))
        name = answer.model_name  # the platform may have another name for it
        self.task.log.info("Requested model %s: %s.", name, answer.status)
        if not self.wait or state_of(answer.status) is JobState.SUCCEEDED:
            return Done(self._result(name, answer.status))
        return WaitFor(kind=MODEL_DOWNLOAD.name, job_ids=[name], submitted_at=time.time())

    def _result(self, name: str, status: str) -> dict[str, object]:
        return {"model_name": name, "model_type": self.model_type, "status": status}

    def _token(self) -> str | None:
        """The hub's token, from its connection."""
        from airflow.providers.common.compat.sdk import BaseHook

        if self.hub_conn_id is None:
            return None
        token = BaseHook.get_connection(self.hub_conn_id).password
        if not token:
            raise InvalidArgumentError(
                f"Connection {self.hub_conn_id!r} has no password: put the hub's token there."
            )
        return token
