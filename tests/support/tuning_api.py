"""Asks a local platform for tuning, by its API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE
from tests.support.structure import check

if TYPE_CHECKING:
    from tests.support.scripted_tuning import TunablePlatform

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(8)]
JOB = "/v1/train/jobs/{job_id}"
FEW = {"max_steps": 4, "save_steps": 2}


def dataset(platform: TunablePlatform, rows: list[dict[str, Any]] = ROWS) -> str:
    """Keep rows as a dataset; its id."""
    answer = platform.http.post("/v1/local-data", json={"upload_base_path": "local", "data": rows})
    return str(answer.json()["dataset_id"])


def begin(platform: TunablePlatform, **body: Any) -> int:
    """Start a tuning job, of a new dataset unless one is given; its id."""
    body = {"model_name": BASE, "finetune_args": FEW, **body}
    if not {"dataset_id", "data", "upload_file_path"} & body.keys():
        body["dataset_id"] = dataset(platform)
    return int(check(platform.http.post("/v1/train", json=body), "/v1/train")["job_id"])


def look(platform: TunablePlatform, job_id: int) -> dict[str, Any]:
    """What is told of a job."""
    job: dict[str, Any] = check(platform.http.get(f"/v1/train/jobs/{job_id}"), JOB)
    return job


def wait_for_jobs(platform: TunablePlatform, job_id: int, status: str) -> dict[str, Any]:
    """Wait until a job has a status, and give what is told of it then."""
    wait_until(lambda: look(platform, job_id)["status"] == status)
    return look(platform, job_id)


def steps_of(job: dict[str, Any]) -> list[int]:
    """The steps of a job's history."""
    return [step["step"] for step in json.loads(job["history"])]


def change(platform: TunablePlatform, job_id: int, what: str) -> str:
    """Cancel or resume a job; its status."""
    answer = platform.http.post(f"/v1/train/jobs/{job_id}/{what}")
    return str(check(answer, f"{JOB}/{what}")["status"])


def ask(platform: TunablePlatform, model: str, prompt: str = "question 1") -> Any:
    """Have a model complete a prompt."""
    return platform.http.post("/v1/completions", json={"model_name": model, "prompt": prompt})
