"""The losses of a training job, in a file of the task's output folder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.runs.output_reservation import reserve_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_lamini.runs.task import TaskIdentity

HISTORY = "loss_history.jsonl"
"""The file's name."""

_JOB_ENDED = "The job has ended. Cleared with another folder, the task returns the job's result, if it has a submission record."


def write_loss_history(
    output: str | None,
    output_conn_id: str | None,
    lines: Iterable[str],
    reserved_for: TaskIdentity | None,
) -> str | None:
    """Write the points of a loss curve.

    :param output: the output folder; ``None`` writes nothing
    :param output_conn_id: the connection for that folder
    :param lines: each point as JSON
    :param reserved_for: the task that the file belongs to; ``None`` replaces that of any task. A task that has attached to its
        job has not reserved the file yet if its folder is another one now.
    :return: the file's path or URI; ``None`` if nothing was written
    :raises LedgerConflictError: if it is reserved for another task
    """
    if output is None:
        return None
    if reserved_for is not None:
        reserve_output(output, output_conn_id, HISTORY, reserved_for, _JOB_ENDED)
    folder = OutputFolder(output, output_conn_id)
    folder.write(HISTORY, (f"{line}\n".encode() for line in lines))
    folder.clean(older_than=0)
    return folder.uri(HISTORY)


def final_loss(losses: Sequence[float | None]) -> float | None:
    """Return the last finite loss; ``None`` if there is none.

    :param losses: the losses in the order of the curve
    """
    return next((loss for loss in reversed(losses) if loss is not None and math.isfinite(loss)), None)
