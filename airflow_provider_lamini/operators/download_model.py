"""Making models of a hub available on the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.operators.base import WaitingOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import flag, one_of, optional_name, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.lamini.model_download import ModelDownload
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("lamini", makes={"model_name": "models"})
class LaminiDownloadModelOperator(WaitingOperator):
    """Has the platform download a model from a hub, and waits until it is available.

    If the platform already has the model, the task ends at once. Repeating the request does no harm, so a retry simply
    continues to wait. The platform cannot cancel a download.

    Endpoint: ``POST /v1alpha/downloaded_models/``, then its list.

    :param model_name: the model's name on the hub, such as ``meta-llama/Llama-3.2-3B-Instruct``
    :param model_type: ``transformer`` or ``embedding``
    :param hub_conn_id: for a private model: an Airflow connection whose password is the hub's token
    :param wait: wait until the model is available; ``False`` returns right after the request
    :param lamini_conn_id: the connection to the platform
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not
    :param cancel_on_kill: has no effect, because the platform cannot cancel a download
    :return: ``model_name`` (the platform's name for it), ``model_type`` and ``status``, the platform's word
    """

    template_fields: Sequence[str] = (
        *WaitingOperator.template_fields,
        "lamini_conn_id",
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
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.model_type = model_type
        self.hub_conn_id = hub_conn_id
        self.wait = wait
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> ModelDownload:
        """Validate the arguments, then return the download."""
        from airflow_provider_lamini.runs.lamini.model_download import ModelDownload

        return ModelDownload(
            task=task,
            model_name=plain_name("model_name", self.model_name).strip(),
            model_type=one_of("model_type", self.model_type, ("transformer", "embedding")),
            hub_conn_id=optional_name("hub_conn_id", self.hub_conn_id),
            wait=flag("wait", self.wait),
        )
