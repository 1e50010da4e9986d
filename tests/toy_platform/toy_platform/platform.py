"""The toy platform: its connection type, its headers and error codes, its status words and kinds of jobs."""

from __future__ import annotations

from typing import Any

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.dialect import Dialect, ErrorStatus
from airflow_provider_lamini.jobs.kinds import JobKind, Listing
from airflow_provider_lamini.jobs.listed import JobList, JobPage, ListedJob, newest
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, ProgressUnit
from airflow_provider_lamini.platforms.base import ConnectionForm, Platform, Probe, common_fields
from toy_platform import calls

WORDS = {
    "cooking": JobState.RUNNING,
    "served": JobState.SUCCEEDED,
    "burnt": JobState.FAILED,
    "thrown away": JobState.CANCELLED,
    "in the fridge": JobState.INACTIVE,
}


def run_status(run: dict[str, Any]) -> JobStatus:
    progress = JobProgress(run["percent"], ProgressUnit.PERCENT)
    return JobStatus(run["run"], WORDS.get(run["phase"], JobState.UNKNOWN), run["phase"], progress)


def run_listing(runs: list[dict[str, Any]]) -> Listing:
    return Listing({run["run"]: run_status(run) for run in runs})


def run_page(runs: list[dict[str, Any]]) -> JobPage:
    return newest(ListedJob(status=run_status(run)) for run in runs)


def bulk_status(bulk: dict[str, Any]) -> JobStatus:
    progress = JobProgress(bulk["finished"], ProgressUnit.ROWS, bulk["of"])
    return JobStatus(bulk["bulk"], WORDS.get(bulk["phase"], JobState.UNKNOWN), bulk["phase"], progress)


TRAINING = JobKind(
    name="toy/training",
    title="toy training",
    status=lambda run_id: calls.run(run_id).map(run_status),
    list_statuses=lambda *_: calls.runs().map(run_listing),
    cancel=calls.stop_run,
)

BATCH = JobKind(
    name="toy/batch",
    title="toy batch",
    status=lambda bulk_id: calls.bulk(bulk_id).map(bulk_status),
)

PLATFORM = Platform(
    form=ConnectionForm(
        conn_type="toy",
        title="Toy",
        hook_class_name="toy_platform.operators.ToyHook",
        docs_url="https://toy.example.com/docs",
        default_url="https://toy.example.com",
        fields=common_fields("toy"),
    ),
    dialect=Dialect(
        key_header="X-Toy-Key",
        key_prefix="",
        headers={"X-Toy-Edition": "7"},
        statuses={
            460: ErrorStatus(meaning="no such order", error=errors.JobNotFoundError, not_started=True),
            561: ErrorStatus(
                meaning="the kitchen is closed",
                error=errors.UnavailableError,
                transient=True,
                not_started=True,
            ),
        },
        data_fields=frozenset({"lines"}),
    ),
    job_kinds={kind.short_name: kind for kind in (TRAINING, BATCH)},
    probe=Probe(call=calls.ping(), describe=lambda answer: f"kitchen: {answer['kitchen']}"),
    job_lists=(JobList(kind=TRAINING, title="Trainings", jobs=lambda _: calls.runs().map(run_page)),),
)
