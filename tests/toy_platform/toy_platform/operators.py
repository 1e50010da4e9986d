"""The toy platform's hook, its operators, and what they say of a job and of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.hooks.base import PlatformHook
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.row_operator import RowOperator

if TYPE_CHECKING:
    from airflow_provider_lamini.runs.row_run import RowRun
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


class ToyHook(PlatformHook):
    conn_name_attr = "toy_conn_id"
    default_conn_name = "toy_default"
    conn_type = "toy"
    hook_name = "Toy"
    platform_name = "toy"

    def __init__(self, toy_conn_id: str = default_conn_name) -> None:
        super().__init__(toy_conn_id)


class ToyTrainOperator(JobOperator):
    """Trains a model of a recipe."""

    def __init__(self, *, recipe: str, toy_conn_id: str = "toy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recipe = recipe
        self.toy_conn_id = toy_conn_id

    def make_hook(self) -> ToyHook:
        return ToyHook(self.toy_conn_id)

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob
        from toy_platform.work import Training

        return SubmittedJob(task, Training(task, self.recipe), self.submission_options())


class ToyBulkOperator(RowOperator):
    """Sends the rows of an input in bulk orders."""

    def __init__(self, *, toy_conn_id: str = "toy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.toy_conn_id = toy_conn_id

    def make_hook(self) -> ToyHook:
        return ToyHook(self.toy_conn_id)

    def work(self, task: TaskRun) -> RowRun:
        from airflow_provider_lamini.runs.row_run import RowRun
        from toy_platform.work import Bulk

        config = self.row_run_config(
            task, endpoint=Bulk(), model="toy", fingerprint_inputs={}, output_required=True
        )
        return RowRun(task, config)
