"""How operators report lineage: a class decorator, and what an operator remembers of a try.

OpenLineage's listener asks the operator object of the process in which a try ends. That is seldom the process that has
submitted the jobs, so everything that it learns comes from the arguments, the records and the result of that last process.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_lamini.runs.lineage import LineageFields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_lamini.runs.lineage import TaskLineage
    from airflow_provider_lamini.runs.task import TaskRun

Operator = TypeVar("Operator", bound="type[BaseOperator]")
Execute = TypeVar("Execute", bound="Callable[..., dict[str, object]]")

_FIELDS = "lineage_fields"


def reports_lineage(
    platform: str = "",
    *,
    uses: Mapping[str, str] | None = None,
    makes: Mapping[str, str] | None = None,
    tables: Mapping[str, str] | None = None,
    defaults: Mapping[str, Callable[[], str]] | None = None,
) -> Callable[[Operator], Operator]:
    """Class decorator of operators: gives them the methods that OpenLineage's listener looks for.

    :param platform: the platform's name; the argument ``<platform>_conn_id`` is the connection to it
    :param uses: arguments that name objects of the platform, each with the sort of object
    :param makes: the same for fields of the result
    :param tables: arguments that name tables written, each with the argument for the connection to the database
    :param defaults: arguments of ``uses``, each with what returns the name that the platform takes without it
    """

    def decorate(operator: Operator) -> Operator:
        added: Any = operator
        added.lineage_fields = LineageFields(
            platform=platform,
            uses=uses or {},
            makes=makes or {},
            tables=tables or {},
            defaults=defaults or {},
        )
        added.answered = None  # counts of rows that were answered without a run over rows
        added.task_lineage = None  # what this process has seen the task do, once it ends here
        added.get_openlineage_facets_on_start = _on_start
        added.get_openlineage_facets_on_complete = _on_end
        added.get_openlineage_facets_on_failure = _on_end
        return operator

    return decorate


def records_lineage(execute: Execute) -> Execute:
    """Decorator of ``execute``, for operators that do not have their work done by `run_work`.

    :param execute: the method
    """

    @functools.wraps(execute)
    def recording(self: BaseOperator, context: Any) -> dict[str, object]:
        with recorded_lineage(self) as ended:
            result = ended.result = execute(self, context)
        return result

    return recording  # type: ignore[return-value]


@dataclass(slots=True)
class ProcessEnd:
    """How a process of a task ends.

    :param result: what the task returns, if it does
    :param waits: whether the task continues in another process
    """

    result: Any = None
    waits: bool = False


@contextmanager
def recorded_lineage(operator: object, task: TaskRun | None = None) -> Iterator[ProcessEnd]:
    """Remember what a task has done in the block, for OpenLineage, and report it to Airflow's hook lineage.

    Both happen in the task's own process: the listener's may not talk to Airflow.

    :param operator: the operator
    :param task: this try; ``None`` for an operator that waits for no jobs
    :return: takes the result
    """
    ended = ProcessEnd()
    try:
        yield ended
    except Exception:
        _remember(operator, task, None)
        raise
    if not ended.waits:
        _remember(operator, task, ended.result)


def _remember(operator: Any, task: TaskRun | None, result: Mapping[str, object] | None) -> None:
    from airflow_provider_lamini.compat import collects_lineage, report_hook_lineage

    fields: LineageFields | None = getattr(operator, _FIELDS, None)
    if fields is None or not collects_lineage():
        return
    from airflow.providers.common.compat.sdk import BaseHook

    from airflow_provider_lamini.runs.lineage import lineage_at_end

    try:
        lineage = lineage_at_end(operator, fields, task, result)
        operator.task_lineage = lineage
        report_hook_lineage(
            BaseHook() if task is None else task.hook,
            reads=[data.uri for data in lineage.inputs if data.in_storage],
            writes=[data.uri for data in lineage.outputs if data.in_storage],
        )
    except Exception as error:  # noqa: BLE001 - lineage must not fail a task that is done
        operator.log.warning("Could not collect this task's lineage: %s", error)


def _on_start(self: Any) -> OperatorLineage[Any, Any] | None:
    """What the arguments say, for OpenLineage."""
    from airflow_provider_lamini.runs.lineage import lineage_at_start

    return _facets(self, lineage_at_start(self, self.lineage_fields))


def _on_end(self: Any, task_instance: Any) -> OperatorLineage[Any, Any] | None:
    """What the task has done, for OpenLineage.

    :param task_instance: leads to the task's records, if this process has not seen the task end
    """
    from airflow_provider_lamini.runs.lineage import lineage_at_start, lineage_of_records

    lineage: TaskLineage | None = self.task_lineage
    if lineage is None and hasattr(self, "make_hook"):
        try:
            lineage = lineage_of_records(self, self.lineage_fields, task_instance.get_template_context())
        except Exception as error:  # noqa: BLE001 - what the arguments say is better than nothing
            self.log.info("Could not read this task's records for its lineage: %s", error)
    return _facets(self, lineage or lineage_at_start(self, self.lineage_fields))


def _facets(operator: Any, lineage: TaskLineage) -> OperatorLineage[Any, Any] | None:
    from airflow_provider_lamini.runs.openlineage import operator_lineage

    try:
        return operator_lineage(lineage)
    except ImportError:
        operator.log.debug("OpenLineage is not installed.")
        return None
