"""What the toy platform's tasks do: a training job, and an endpoint for rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.runs.job_spec import JobSpec, OrphanSearch, Prepared
from toy_platform import calls
from toy_platform.platform import TRAINING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


class Training(JobSpec[dict[str, object]]):
    kind = TRAINING

    def __init__(self, task: TaskRun, recipe: str) -> None:
        self._send = task.hook.send
        self._recipe = recipe

    def fingerprint_inputs(self) -> Mapping[str, object]:
        return {"recipe": self._recipe}

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        yield Prepared(create=lambda: self._send(calls.start_run(self._recipe, mark)))

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:
        found = (run["run"] for run in self._send(calls.runs()) if run["mark"] == submission.mark)
        return next(found, OrphanSearch.NOT_STARTED)

    def result(self, job_id: str, status: Any, submission: Submission | None) -> dict[str, object]:  # noqa: ARG002
        return {"run": job_id, "phase": status.raw}

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:  # noqa: ARG002
        return {"run": job_id}


class Bulk:
    """A chunk of rows is one bulk order."""

    kind = "toy/batch"
    reports_tokens = False

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        return calls.start_bulk(prompts)

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        def parse(bulk: dict[str, Any]) -> ChunkResult:
            if len(bulk["out"]) != rows:
                raise ValueError(f"bulk {job_id} has {len(bulk['out'])} results for {rows} lines")
            return ChunkResult(bulk["out"], ["stop"] * rows, [None] * rows)

        return calls.bulk(job_id).map(parse)
