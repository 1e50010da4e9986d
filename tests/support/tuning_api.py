"""Helpers that call the tuning endpoints of a local platform."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.contract import check
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE

if TYPE_CHECKING:
    from tests.support.scripted_tuning import TunablePlatform

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(8)]
JOB = "/v1/train/jobs/{job_id}"
FINETUNE_ARGS = {"max_steps": 4, "save_steps": 2}


def dataset(platform: TunablePlatform, rows: list[dict[str, Any]] = ROWS) -> str:
    """Create a dataset from rows, and return its id."""
    response = platform.http.post("/v1/local-data", json={"upload_base_path": "local", "data": rows})
    return str(response.json()["dataset_id"])


def start_job(platform: TunablePlatform, **body: Any) -> int:
    """Start a tuning job and return its id. If the body names no data, the job uses a new dataset."""
    body = {"model_name": BASE, "finetune_args": FINETUNE_ARGS, **body}
    if not {"dataset_id", "data", "upload_file_path"} & body.keys():
        body["dataset_id"] = dataset(platform)
    return int(check(platform.http.post("/v1/train", json=body), "/v1/train")["job_id"])


def get_job(platform: TunablePlatform, job_id: int) -> dict[str, Any]:
    """Return a job as the API describes it."""
    job: dict[str, Any] = check(platform.http.get(f"/v1/train/jobs/{job_id}"), JOB)
    return job


def wait_for_jobs(platform: TunablePlatform, job_id: int, status: str) -> dict[str, Any]:
    """Wait until a job has a status, then return the job."""
    wait_until(lambda: get_job(platform, job_id)["status"] == status)
    return get_job(platform, job_id)


def steps_of(job: dict[str, Any]) -> list[int]:
    """Return the step numbers in a job's history."""
    return [step["step"] for step in json.loads(job["history"])]


def change(platform: TunablePlatform, job_id: int, action: str) -> str:
    """Cancel or resume a job, and return its new status.

    :param action: ``"cancel"`` or ``"resume"``
    """
    response = platform.http.post(f"/v1/train/jobs/{job_id}/{action}")
    return str(check(response, f"{JOB}/{action}")["status"])


def complete(platform: TunablePlatform, model: str, prompt: str = "question 1") -> Any:
    """Request a completion from a model."""
    return platform.http.post("/v1/completions", json={"model_name": model, "prompt": prompt})
