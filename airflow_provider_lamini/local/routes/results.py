"""What is answered for a job made of rows, be it running or ended."""

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.jobs.rows import UNFINISHED_REASON
from airflow_provider_lamini.local.store import Job, Store, as_json


def rows_in_order(store: Store, job: Job) -> bytes:
    """A batch's outputs and finish reasons, null for rows that are not done.

    While the batch runs, rows are shown up to the first one that is not done: clients count the rows that
    are done and read as many from the front.

    :returns: ``{}`` before the batch has begun
    """
    if job.state is JobState.QUEUED and not job.done:
        return b"{}"
    if job.ended is not None and job.done < job.total:
        return rows_so_far(store, job, {})
    done = store.done_prefix(job.id)
    missing = ["null"] * (job.total - done.rows)
    outputs, reasons = ([joined] if done.rows else [] for joined in (done.outputs, done.reasons))
    return _body([*outputs, *missing], [*reasons, *missing])


def rows_so_far(store: Store, job: Job, texts: dict[int, str]) -> bytes:
    """Outputs and finish reasons of every row that is done, and the texts so far of others.

    :param texts: text so far by row
    :returns: ``{}`` before the job has begun
    """
    if job.state is JobState.QUEUED and not job.done:
        return b"{}"
    unfinished = None if job.ended is None else UNFINISHED_REASON.get(job.state, "error")
    outputs = [as_json(texts.get(row)) for row in range(job.total)]
    reasons = [as_json(unfinished)] * job.total
    for result in store.results(job.id):
        outputs[result.row], reasons[result.row] = result.output, as_json(result.finish_reason)
    return _body(outputs, reasons)


def _body(outputs: list[str], reasons: list[str]) -> bytes:
    return f'{{"outputs":[{",".join(outputs)}],"finish_reason":[{",".join(reasons)}]}}'.encode()
