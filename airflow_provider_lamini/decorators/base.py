"""What all TaskFlow decorators share: the function of a task gives one argument of its operator."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import DecoratedOperator, context_merge, task_decorator_factory

from airflow_provider_lamini.compat import call_arguments
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.shared_arguments import input_options, required_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskDecorator

    from airflow_provider_lamini.runs.task import TaskRun


class FunctionRows(DecoratedOperator, RowOperator):
    """A task over rows that a function returns. What it returns is data, so it is not rendered.

    With ``output``, the first try calls the function and keeps its rows in the output folder. After a deferral, and in
    later tries, the rows are read there, and the function is not called again. Without ``output``, each try calls it.
    """

    if not hasattr(DecoratedOperator, "xcom_push"):
        # Airflow 3.0 hands the method over and never calls it, but its operators have none.
        xcom_push = None

    def rows_input(self, task: TaskRun) -> object:
        """What the function returns. It is called when rows are needed."""
        from airflow_provider_lamini.rows.sources.function import FunctionInput

        rows = FunctionInput(
            self.python_callable.__name__,
            partial(call_function, self, task.context),
            columns=input_options(self).columns,
            inline=self.output_folder is None,
        )
        return required_input(rows, self)


def call_function(operator: DecoratedOperator, context: Context) -> object:
    """Call the function of a task with its arguments and with what it asks for of Airflow's context.

    :param operator: the task, its templates rendered
    :param context: Airflow's context
    :return: what the function returns
    """
    context_merge(context, operator.op_kwargs)
    kwargs = call_arguments(operator.python_callable, operator.op_args, context)
    return operator.python_callable(*operator.op_args, **kwargs)


def fields_without(operator: type[BaseOperator], argument: str) -> Sequence[str]:
    """The template fields of a decorated operator.

    :param operator: the operator that is decorated
    :param argument: the argument that the function gives; it is not rendered
    """
    fields = (field for field in operator.template_fields if field != argument)
    return (*DecoratedOperator.template_fields, *fields)


def function_task(
    python_callable: Callable[..., object] | None, operator: type[BaseOperator], **kwargs: Any
) -> TaskDecorator:
    """Make a task of a function.

    :param python_callable: the function; ``None`` if the decorator has arguments
    :param operator: the decorated operator
    :param kwargs: its arguments
    :raises TypeError: if the function is ``async def``
    """
    kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write answers["output"]
    decorate: TaskDecorator = task_decorator_factory(
        python_callable=None, decorated_operator_class=operator, **kwargs
    )

    def checked(function: Callable[..., object]) -> Any:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__name__} is async: a function that gives a task its rows or prompts must be a plain one."
            )
        return decorate(function)

    return cast("TaskDecorator", checked if python_callable is None else checked(python_callable))
