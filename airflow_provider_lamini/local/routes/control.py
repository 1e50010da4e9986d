"""Control endpoints for tests: faults, holds, forced job ends, statistics. Only served with ``--control``."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.emissary.delays import Delays
from airflow_provider_lamini.local.errors import NoSuchJobError
from airflow_provider_lamini.local.faults import CONTROL_PREFIX, Fault
from airflow_provider_lamini.local.jobs.runner import Hold
from airflow_provider_lamini.local.jobs.store import Job
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response

router = APIRouter(prefix=CONTROL_PREFIX)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoadingBody(_Body):
    """Reports a model as loading.

    :param model_name: None stands for every model
    :param seconds: for how long
    """

    model_name: str | None = None
    seconds: Annotated[float, Field(ge=0, le=3600)]


class RowFaultBody(_Body):
    """Lets rows fail.

    :param contains: text in the prompts of these rows
    :param times: number of rows to fail; None fails all
    """

    contains: str
    times: Annotated[int, Field(ge=1)] | None = 1


class HoldBody(_Body):
    """Keeps jobs from starting more rows until they are released.

    :param kind: only jobs of this kind
    :param job_id: only this job
    :param after_rows: rows that each job may start first
    """

    kind: str | None = None
    job_id: str | None = None
    after_rows: Annotated[int, Field(ge=0)] = 0


class EndBody(_Body):
    """Final state of a job that is ended."""

    state: Literal["succeeded", "partly succeeded", "failed", "cancelled", "timed out"]
    detail: str | None = None


class UploadBaseBody(_Body):
    """How clients upload rows from now on."""

    base: Literal["local", "azure"]


@router.post("/faults")
async def add_fault(fault: Fault, platform: PlatformDep) -> dict[str, int]:
    """Add a fault, and return the number of faults."""
    platform.faults.add(fault)
    return {"faults": len(platform.faults.hit_counts())}


@router.get("/faults")
async def list_faults(platform: PlatformDep) -> Response:
    """List the faults, each with the number of requests it affected."""
    return json_response(
        [{**fault.model_dump(mode="json"), "hits": hits} for fault, hits in platform.faults.hit_counts()]
    )


@router.delete("/faults")
async def clear_faults(platform: PlatformDep) -> Response:
    """Remove all faults."""
    platform.faults.reset()
    return Response(status_code=204)


@router.post("/loading")
async def set_loading(body: LoadingBody, platform: PlatformDep) -> Response:
    """Report a model as loading."""
    platform.faults.set_loading(body.model_name, body.seconds)
    return Response(status_code=204)


@router.post("/row-faults")
async def fail_rows(body: RowFaultBody, platform: PlatformDep) -> Response:
    """Let rows fail."""
    platform.faults.fail_rows(body.contains, body.times)
    return Response(status_code=204)


@router.post("/holds")
async def hold(body: HoldBody, platform: PlatformDep) -> Response:
    """Keep jobs from starting more rows."""
    platform.runner.hold(Hold(kind=body.kind, job_id=body.job_id, after_rows=body.after_rows))
    return Response(status_code=204)


@router.delete("/holds")
async def release(platform: PlatformDep) -> Response:
    """Release all held jobs."""
    platform.runner.release()
    return Response(status_code=204)


@router.post("/upload-base")
async def set_upload_base(body: UploadBaseBody, platform: PlatformDep) -> Response:
    """Change how clients upload rows."""
    platform.datasets.base = body.base
    return Response(status_code=204)


@router.post("/delays")
async def set_delays(delays: Delays, platform: PlatformDep) -> Response:
    """Change how long things take on the platform; fields that are not sent do not change."""
    for name in delays.model_fields_set:
        setattr(platform.emissary.delays, name, getattr(delays, name))
    return Response(status_code=204)


@router.get("/jobs")
async def jobs(platform: PlatformDep, kind: str | None = None) -> Response:
    """List the jobs, oldest first, each with the rows computed by this process."""

    def read() -> list[dict[str, Json]]:
        computed = platform.runner.computed_rows()
        return [_job_entry(job, computed.get(job.id, 0)) for job in platform.store.jobs(kind)]

    return json_response(await asyncio.to_thread(read))


@router.post("/jobs/{job_id}/end")
async def end(job_id: str, body: EndBody, platform: PlatformDep) -> dict[str, bool]:
    """End a job with a given state. A job that has already ended does not change."""

    def end_job() -> bool:
        if platform.store.job(job_id) is None:
            raise NoSuchJobError(job_id)
        return platform.runner.end(job_id, JobState(body.state), body.detail)

    return {"ended": await asyncio.to_thread(end_job)}


@router.get("/stats")
async def stats(platform: PlatformDep) -> Response:
    """Return requests per path and computed rows since the start or the last reset, and jobs per kind."""
    return json_response(await asyncio.to_thread(_stats, platform))


def _stats(platform: LocalPlatform) -> dict[str, Json]:
    kinds: dict[str, Json] = {}
    for job in platform.store.jobs():
        count = kinds.get(job.kind, 0)
        kinds[job.kind] = (count if isinstance(count, int) else 0) + 1
    requests: dict[str, Json] = dict(platform.request_counter.counts())
    computed = sum(platform.runner.computed_rows().values())
    return {"requests": requests, "jobs": kinds, "rows_computed": computed}


@router.post("/reset")
async def reset(platform: PlatformDep) -> Response:
    """Remove faults and holds, reset counts, cancel unfinished jobs, and delete all jobs."""

    def delete_jobs() -> None:
        for job in platform.store.jobs(unfinished=True):
            platform.runner.end(job.id, JobState.CANCELLED)
        platform.store.delete_ended()
        platform.tunings.delete_jobs()

    platform.faults.reset()
    platform.datasets.reset()
    await asyncio.to_thread(platform.emissary.reset)
    await asyncio.to_thread(delete_jobs)
    platform.runner.reset()
    platform.request_counter.reset()
    return Response(status_code=204)


def _job_entry(job: Job, computed: int) -> dict[str, Json]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "detail": job.detail,
        "total": job.total,
        "done": job.done,
        "computed_here": computed,
        "runs": job.runs,
        "created": job.created,
        "ended": job.ended,
    }
