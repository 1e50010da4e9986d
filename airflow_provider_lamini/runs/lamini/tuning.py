"""What operators do with tuning jobs, once they run. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from airflow_provider_lamini.platforms.lamini.api import training
from airflow_provider_lamini.platforms.lamini.kinds import TUNING
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.runs.outcome import Log

HISTORY = "loss_history.jsonl"
"""The file with a job's steps, in the task's output folder."""

SHOWS_AFTER = 15.0
"""Seconds until a platform shows that it has taken a job up again, at the most."""


def resume(hook: PlatformHook, job_id: str, log: Log) -> None:
    """Have an ended tuning job go on from its checkpoint, and wait until the platform shows it.

    :param hook: leads to the platform
    :param job_id: a job that failed, was cancelled or timed out
    :param log: the task's log
    :raises PlatformError: where the platform refused or failed; where it is not known whether it began, the job is
        looked at instead
    """
    from airflow_provider_lamini.api.errors import PlatformError

    try:
        hook.send(training.resume(job_id))
    except PlatformError as error:
        if not error.may_have_started:
            raise
        log.warning("Whether tuning job %s goes on is not known yet: %s", job_id, error)
    until, pause = time.monotonic() + SHOWS_AFTER, 0.25
    while hook.send(TUNING.status(job_id)).state.ended and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def result_of(
    hook: PlatformHook, job_id: str, *, status: str, output: str | None, output_conn_id: str | None, log: Log
) -> dict[str, object]:
    """What a tuning job came to, as a task returns it.

    :param hook: leads to the platform
    :param job_id: the job
    :param status: how it ended, in the platform's word
    :param output: a folder for the file ``loss_history.jsonl``; ``None`` writes none
    :param output_conn_id: the connection for that folder
    :param log: the task's log
    """
    job = hook.send(training.job(job_id))
    steps = job.steps()
    last = steps[-1] if steps else None
    if not job.model_name:
        log.warning("The platform tells no name of the model that tuning job %s has made.", job_id)
    history = None
    if output is not None:
        folder = OutputFolder(output, output_conn_id)
        folder.write(HISTORY, (f"{step.model_dump_json(exclude_unset=True)}\n".encode() for step in steps))
        folder.clean(older_than=0)
        history = folder.uri(HISTORY)
    losses = [step.loss for step in steps if step.loss is not None and math.isfinite(step.loss)]
    result: dict[str, object] = {
        "job_id": job_id,
        "status": status,
        "model_name": job.model_name,
        "custom_model_name": job.custom_model_name,
        "dataset_id": job.dataset_id,
        "steps": last.step if last else None,
        "final_loss": losses[-1] if losses else None,
        "history": history,
    }
    log.info(
        "Tuning job %s ended as %s after %s steps: model %s, final loss %s.",
        *(job_id, status, result["steps"], job.model_name, result["final_loss"]),
    )
    return result
