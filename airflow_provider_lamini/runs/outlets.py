"""The asset events of all operators and sensors: their ``extra`` says what the task has made."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator, Context

Execute = TypeVar("Execute", bound="Callable[..., Any]")


def fills_outlets(execute: Execute) -> Execute:
    """Decorator of ``execute`` and ``execute_complete``: when the task is done, the events of its outlets get an ``extra``.

    What the Dag's author has put into an ``extra`` stays as it is.

    :param execute: the method; it returns a mapping
    """

    @functools.wraps(execute)
    def filling(self: BaseOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        result = execute(self, context, *args, **kwargs)
        if self.outlets:
            _fill(self, context, result)
        return result

    return filling  # type: ignore[return-value]


def _fill(operator: BaseOperator, context: Context, result: Mapping[str, object]) -> None:
    from airflow_provider_lamini.compat import outlet_extras
    from airflow_provider_lamini.runs.asset_events import event_extra
    from airflow_provider_lamini.runs.lineage import LineageFields, lineage_at_end

    try:
        fields = getattr(operator, "lineage_fields", None) or LineageFields(platform=_platform(operator))
        lineage = lineage_at_end(operator, fields, getattr(operator, "task_run", None), result)
        extra = event_extra(lineage, result)
        for known in outlet_extras(context, operator.outlets):
            known.update({name: value for name, value in extra.items() if name not in known})
    except Exception as error:  # noqa: BLE001 - the job is done and paid for: its task must not fail for this
        operator.log.warning("Could not add the ids and counts to this task's asset events: %s", error)


def _platform(operator: BaseOperator) -> str:
    """The platform of an operator that reports no lineage: the one whose connection it takes."""
    from airflow_provider_lamini.platforms import platform_names

    known = platform_names()
    names = (field.removesuffix("_conn_id") for field in operator.template_fields)
    return next((name for name in names if name in known), "")
