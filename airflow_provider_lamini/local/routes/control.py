"""Control for tests: faults, holds, forced ends, counts. Off unless asked for."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import JobNotFoundError
from airflow_provider_lamini.local.faults import CONTROL_PREFIX, Fault
from airflow_provider_lamini.local.jobs.runner import Hold
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer
from airflow_provider_lamini.local.store import Job

router = APIRouter(prefix=CONTROL_PREFIX)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Loading(_Body):
    """A model that counts as loading.

    :param model_name: None is every model
    :param seconds: for so long
    """

    model_name: str | None = None
    seconds: Annotated[float, Field(ge=0, le=3600)]


class RowFault(_Body):
    """Rows that fail.

    :param contains: a text in their prompt
    :param times: so many such rows; None is all
    """

    contains: str
    times: Annotated[int, Field(ge=1)] | None = 1


class HoldBody(_Body):
    """Jobs that start no further rows until released.

    :param kind: only of this kind
    :param job_id: only this one
    :param after_rows: rows that each may do first
    """

    kind: str | None = None
    job_id: str | None = None
    after_rows: Annotated[int, Field(ge=0)] = 0


class End(_Body):
    """How a job is made to end."""

    state: Literal["succeeded", "partly succeeded", "failed", "cancelled", "timed out"]
    detail: str | None = None


@router.post("/faults")
async def add_fault(fault: Fault, platform: PlatformOf) -> dict[str, int]:
    """Let requests go wrong."""
    platform.faults.add(fault)
    return {"faults": len(platform.faults.listing())}


@router.get("/faults")
async def list_faults(platform: PlatformOf) -> Response:
    """The faults with the number of requests that each has hit."""
    found = platform.faults.listing()
    return as_answer([{**fault.model_dump(mode="json"), "hits": hits} for fault, hits in found])


@router.delete("/faults")
async def clear_faults(platform: PlatformOf) -> Response:
    """Let everything go right again."""
    platform.faults.reset()
    return Response(status_code=204)


@router.post("/loading")
async def load(loading: Loading, platform: PlatformOf) -> Response:
    """Make a model count as loading."""
    platform.faults.load(loading.model_name, loading.seconds)
    return Response(status_code=204)


@router.post("/row-faults")
async def spoil_rows(rows: RowFault, platform: PlatformOf) -> Response:
    """Let rows fail."""
    platform.faults.spoil(rows.contains, rows.times)
    return Response(status_code=204)


@router.post("/holds")
async def hold(body: HoldBody, platform: PlatformOf) -> Response:
    """Keep jobs from starting further rows."""
    platform.runner.hold(Hold(kind=body.kind, job_id=body.job_id, after_rows=body.after_rows))
    return Response(status_code=204)


@router.delete("/holds")
async def release(platform: PlatformOf) -> Response:
    """Let held jobs go on."""
    platform.runner.release()
    return Response(status_code=204)


@router.get("/jobs")
async def jobs(platform: PlatformOf, kind: str | None = None) -> Response:
    """The jobs, oldest first, with what was done for each."""

    def read() -> list[dict[str, Json]]:
        computed = platform.runner.computed()
        return [_shown(job, computed.get(job.id, 0)) for job in platform.store.jobs(kind)]

    return as_answer(await asyncio.to_thread(read))


@router.post("/jobs/{job_id}/end")
async def end(job_id: str, body: End, platform: PlatformOf) -> dict[str, bool]:
    """End a job as it is told; one that has ended stays as it is."""

    def do() -> bool:
        if platform.store.job(job_id) is None:
            raise JobNotFoundError(job_id)
        return platform.runner.end(job_id, JobState(body.state), body.detail)

    return {"ended": await asyncio.to_thread(do)}


@router.get("/stats")
async def stats(platform: PlatformOf) -> Response:
    """Requests per path since the process began or was reset, jobs per kind, and rows computed."""
    return as_answer(await asyncio.to_thread(_stats, platform))


def _stats(platform: Platform) -> dict[str, Json]:
    kinds: dict[str, Json] = {}
    for job in platform.store.jobs():
        of_kind = kinds.get(job.kind, 0)
        kinds[job.kind] = (of_kind if isinstance(of_kind, int) else 0) + 1
    requests: dict[str, Json] = dict(platform.requests.counts())
    return {"requests": requests, "jobs": kinds, "rows_computed": sum(platform.runner.computed().values())}


@router.post("/reset")
async def reset(platform: PlatformOf) -> Response:
    """Forget faults, holds, counts and jobs; those that live are cancelled."""

    def forget_jobs() -> None:
        for job in platform.store.jobs(alive=True):
            platform.runner.end(job.id, JobState.CANCELLED)
        platform.store.delete_ended()
        platform.tunings.delete_jobs()

    platform.faults.reset()
    platform.datasets.reset()
    await asyncio.to_thread(forget_jobs)
    platform.runner.reset()
    platform.requests.reset()
    return Response(status_code=204)


def _shown(job: Job, computed: int) -> dict[str, Json]:
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
