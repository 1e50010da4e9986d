"""Models from a hub, made available on the platform."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError, JobLostError
from airflow_provider_lamini.operators.legacy import JobOperator
from airflow_provider_lamini.runs.arguments import flag, one_of, optional_name, plain_name
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import JobEvent


class LaminiDownloadModelOperator(JobOperator[dict[str, object]]):
    """Has the platform download a model from a hub, and waits until it is available.

    A model that is there already is taken at once. Asking again does no harm, so a retry goes on waiting. The
    platform cannot cancel a download.

    Endpoint: ``POST /v1alpha/downloaded_models/``, then its list.

    :param model_name: the model's name on the hub, such as ``meta-llama/Llama-3.2-3B-Instruct``
    :param model_type: ``transformer`` or ``embedding``
    :param hub_conn_id: for a private model: an Airflow connection whose password is the hub's token
    :param wait: wait until the model is available; ``False`` returns right after the request
    :return: ``model_name`` (the platform's own name of it), ``model_type`` and ``status``, the platform's own word
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "model_name",
        "model_type",
        "hub_conn_id",
    )

    def __init__(
        self,
        *,
        model_name: str,
        model_type: str = "transformer",
        hub_conn_id: str | None = None,
        wait: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.model_type = model_type
        self.hub_conn_id = hub_conn_id
        self.wait = wait

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        self._name = plain_name("model_name", self.model_name).strip()
        self._type = one_of("model_type", self.model_type, ("transformer", "embedding"))
        optional_name("hub_conn_id", self.hub_conn_id)
        self.wait = flag("wait", self.wait)

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Ask for the model, then judge how its download ended; see :class:`JobOperator`."""
        del context
        if event is None:
            return self._request()
        from airflow_provider_lamini.jobs.state import JobState

        for name, lost in event.lost.items():
            raise JobLostError(f"How the download of {name} stands cannot be told: {lost.reason}")
        ((name, ended),) = event.ended.items()
        if ended.state is not JobState.SUCCEEDED:
            reason = f": {ended.detail}" if ended.detail else ""
            raise JobFailedError(
                f"The download of {name} ended as {ended.raw}{reason}. A retry asks for it again."
            )
        return Done(self._result(name, ended.raw))

    def _request(self) -> WaitFor | Done[dict[str, object]]:
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.platforms.lamini.api import models
        from airflow_provider_lamini.platforms.lamini.kinds import MODEL_DOWNLOAD, state_of

        asked = self.hook.send(models.download(self._name, self._type, self._token()))
        name = asked.model_name  # the platform may know it under another
        self.log.info("Asked for model %s: %s.", name, asked.status)
        if not self.wait or state_of(asked.status) is JobState.SUCCEEDED:
            return Done(self._result(name, asked.status))
        return WaitFor(kind=MODEL_DOWNLOAD.name, job_ids=[name], submitted_at=time.time())

    def _result(self, name: str, status: str) -> dict[str, object]:
        return {"model_name": name, "model_type": self._type, "status": status}

    def _token(self) -> str | None:
        """The hub's token, out of its connection."""
        from airflow.providers.common.compat.sdk import BaseHook

        if self.hub_conn_id is None:
            return None
        token = BaseHook.get_connection(self.hub_conn_id).password
        if not token:
            raise InvalidArgumentError(
                f"Connection {self.hub_conn_id!r} has no password: put the hub's token there."
            )
        return token
