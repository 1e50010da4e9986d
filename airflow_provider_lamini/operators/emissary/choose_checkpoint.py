"""Choosing a checkpoint of a training job."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.runs.arguments import (
    identifier,
    one_of,
    optional_name,
    shown,
    whole_number,
)
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.runs.emissary.checkpoints import Choice

GATES = ("fail", "skip", "return")


@reports_lineage("emissary", uses={"training_job_id": "models"})
class EmissaryChooseCheckpointOperator(BaseOperator):
    """Chooses a checkpoint of a training job: the newest, one by its number, or the best by a test result.

    With a ``threshold`` it is a gate, as :class:`~airflow_provider_lamini.operators.evaluate.LaminiEvaluateOperator`: a
    checkpoint that is not good enough fails or skips the task, or the result says so.

    Endpoint: ``GET /v1/projects/{project_id}/training-jobs/{training_job_id}/checkpoints``.

    :param project_id: the project
    :param training_job_id: the training job
    :param checkpoint: the number of the checkpoint; default: the best by ``metric``, or without one the newest
    :param metric: name of an aggregated test result, such as the test function ``exact_match``
    :param mode: ``max`` if the highest value of the metric is the best, ``min`` if the lowest is
    :param threshold: the worst value of the metric that is good enough
    :param gate: what to do if the threshold is missed: ``fail`` the task (without a retry), ``skip`` the tasks after it,
        or ``return`` the result with ``passed`` false
    :param emissary_conn_id: the connection to the platform
    :return: ``job_id``, ``project_id``, ``training_job_id``, ``checkpoint``, ``metric``, ``value``, ``passed``, and
        ``test_results`` (all aggregated test results of the checkpoint)
    """

    template_fields: Sequence[str] = (
        "emissary_conn_id",
        "project_id",
        "training_job_id",
        "checkpoint",
        "metric",
        "mode",
        "threshold",
        "gate",
    )
    ui_color = COLOR

    def __init__(
        self,
        *,
        project_id: str,
        training_job_id: str,
        checkpoint: int | str | None = None,
        metric: str | None = None,
        mode: str = "max",
        threshold: float | str | None = None,
        gate: str = "fail",
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write choose.output["checkpoint"]
        super().__init__(**kwargs)
        self.project_id = project_id
        self.training_job_id = training_job_id
        self.checkpoint = checkpoint
        self.metric = metric
        self.mode = mode
        self.threshold = threshold
        self.gate = gate
        self.emissary_conn_id = emissary_conn_id

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:
        """Read the checkpoints and choose one."""
        from airflow_provider_lamini.runs.emissary.checkpoints import choose_checkpoint

        del context
        project_id = identifier("project_id", self.project_id)
        training_job_id = identifier("training_job_id", self.training_job_id)
        choice = self._choice()
        with emissary_hook(self.emissary_conn_id) as hook:
            chosen = choose_checkpoint(hook, project_id, training_job_id, choice)
        self.log.info("Chose checkpoint %s of training job %s.", chosen["checkpoint"], training_job_id)
        return chosen

    def _choice(self) -> Choice:
        from airflow_provider_lamini.runs.emissary.checkpoints import Choice

        threshold = None if self.threshold is None else finite(self.threshold)
        if threshold is not None and math.isnan(threshold):
            raise InvalidArgumentError(f"threshold must be a number, not {shown(self.threshold)}.")
        metric = optional_name("metric", self.metric)
        if threshold is not None and metric is None:
            raise InvalidArgumentError("threshold needs a metric, the test result that it is for.")
        checkpoint = self.checkpoint
        return Choice(
            checkpoint=None if checkpoint is None else whole_number("checkpoint", checkpoint, minimum=0),
            metric=metric,
            lower_is_better=one_of("mode", self.mode, ("max", "min")) == "min",
            threshold=threshold,
            gate=one_of("gate", self.gate, GATES),
        )
