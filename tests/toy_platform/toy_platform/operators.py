"""The toy platform's hook and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.hooks.base import PlatformHook
from airflow_provider_lamini.operators.row_operator import ChunkedOperator
from airflow_provider_lamini.operators.single import SingleJobOperator
from airflow_provider_lamini.operators.submit_once import OrphanSearch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult


class ToyHook(PlatformHook):
    conn_name_attr = "toy_conn_id"
    default_conn_name = "toy_default"
    conn_type = "toy"
    hook_name = "Toy"
    platform_name = "toy"

    def __init__(self, toy_conn_id: str = default_conn_name) -> None:
        super().__init__(toy_conn_id)


class ToyTrainOperator(SingleJobOperator[dict[str, object]]):
    """Trains a model of a recipe."""

    def __init__(self, *, recipe: str, toy_conn_id: str = "toy_default", **kwargs: Any) -> None:
        super().__init__(lamini_conn_id=toy_conn_id, **kwargs)
        self.recipe = recipe

    @property
    def kind(self):
        from toy_platform.platform import TRAINING

        return TRAINING

    def make_hook(self):
        return ToyHook(self.lamini_conn_id)

    def fingerprint_inputs(self):
        return {"recipe": self.recipe}

    def submit(self, mark):
        from toy_platform import calls

        return self.hook.send(calls.start_run(self.recipe, mark))

    def find(self, submission):
        from toy_platform import calls

        runs = self.hook.send(calls.runs())
        found = (run["run"] for run in runs if run["mark"] == submission.mark)
        return next(found, OrphanSearch.NOT_STARTED)

    def fetch(self, job_id, status):
        return {"run": job_id, "phase": status.raw}

    def result_without_waiting(self, job_id):
        return {"run": job_id}


class ToyBulkOperator(ChunkedOperator):
    """Sends the rows of an input in batches."""

    def __init__(self, *, toy_conn_id: str = "toy_default", **kwargs: Any) -> None:
        super().__init__(lamini_conn_id=toy_conn_id, **kwargs)

    def make_hook(self):
        return ToyHook(self.lamini_conn_id)

    def fingerprint_inputs(self):
        return {}

    def answered_by(self):
        return "toy"

    def job_endpoint(self):
        return ToyBulk()


class ToyBulk:
    """A chunk of rows is one bulk order."""

    kind = "toy/batch"

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        from toy_platform import calls

        return calls.start_bulk(prompts)

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
        from toy_platform import calls

        def read(bulk: dict[str, Any]) -> ChunkResult:
            if len(bulk["out"]) != rows:
                raise ValueError(f"bulk {job_id} has {len(bulk['out'])} results for {rows} lines")
            return ChunkResult(bulk["out"], ["stop"] * rows, [None] * rows)

        return calls.bulk(job_id).map(read)
