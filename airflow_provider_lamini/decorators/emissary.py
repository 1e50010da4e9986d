"""The TaskFlow decorator ``@task.emissary_batch_inference``. Dags use it by this name; Airflow finds it in the metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.decorators.base import FunctionRows, fields_without, function_task
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import TaskDecorator


class EmissaryBatchInferenceTask(FunctionRows, EmissaryBatchInferenceOperator):
    """``@task.emissary_batch_inference``."""

    custom_operator_name = "@task.emissary_batch_inference"
    template_fields: Sequence[str] = fields_without(EmissaryBatchInferenceOperator, "input")


def batch_inference_task(
    python_callable: Callable[..., object] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Let a function return the prompts or rows for a deployment: ``@task.emissary_batch_inference``.

    :param python_callable: returns or yields texts or mappings
    :param kwargs: arguments of ``EmissaryBatchInferenceOperator`` except ``input``, and of any task
    """
    return function_task(python_callable, EmissaryBatchInferenceTask, **kwargs)
