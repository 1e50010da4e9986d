"""What the processes of a race do: the same try of the same task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tests.support.tasks import TI, begin, execute

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 6
CHUNK = 2


def infer(number: int) -> str:
    """Run a try of a batch inference to its end, or until another process takes over."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from airflow_provider_lamini.rows.errors import LedgerLostError

    def make() -> Any:
        return LaminiBatchInferenceOperator(
            task_id="infer",
            input=[f"round {number} row {row}" for row in range(ROWS)],
            model_name="m",
            output=f"{os.environ['RACE_FOLDER']}/{number}",
            chunk_size=CHUNK,
            max_in_flight=2,
            deferrable=True,
        )

    go_on: Callable[[], Any] = lambda: execute(make())  # noqa: E731
    while True:
        try:
            return f"{go_on()['counts']['ok']} ok"
        except TaskDeferred as deferred:
            event = _all_done(deferred.trigger)
            go_on = lambda event=event: make().execute_complete({"ti": TI}, event=event)  # type: ignore[misc]  # noqa: E731
        except LedgerLostError:
            return "taken over"


def _all_done(trigger: Any) -> dict[str, Any]:
    """The event of a trigger whose jobs have all ended well; the platform of a race is never busy."""
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobState

    ended = {job_id: EndedJob(JobState.SUCCEEDED, "done") for job_id in trigger.job_ids}
    return JobEvent(ended=ended, deadline=trigger.deadline).payload()


def tune(number: int) -> str:
    """Begin a try of a tuning task; say which job it waits for, or why it does not."""
    from airflow_provider_lamini.operators.train import LaminiTrainOperator
    from tests.support.tuning_platform import LinkedTask

    make = lambda: LaminiTrainOperator(  # noqa: E731
        task_id="train",
        model_name="base-model",
        dataset_id="given",
        state_path=os.environ["RACE_FOLDER"],
        deferrable=True,
    )
    ti = LinkedTask(run_id=f"run-{number}")
    return f"job {begin(make, ti).trigger['job_ids'][0]}"
