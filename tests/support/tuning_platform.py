"""A fake platform on loopback: stores datasets, runs scripted tuning jobs, and validates requests."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.platforms.lamini.api.datasets import (
    CreateDatasetRequest,
    ExistingDataRequest,
    LocalDataRequest,
    NumDatapointsRequest,
)
from airflow_provider_lamini.platforms.lamini.api.evaluation import EvalRunRequest
from airflow_provider_lamini.platforms.lamini.api.models import DownloadModelRequest
from airflow_provider_lamini.platforms.lamini.api.training import TrainRequest
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.blob_store import BlobStore, blob_store
from tests.support.scripted_platform import Refusal, ScriptedPlatform, environment, serving
from tests.support.tasks import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASE_PATH = "/app/datasets"
WELL = ("CREATED", "TRAINING MODEL", "COMPLETED")


@dataclass
class Job:
    """A tuning job.

    :param states: remaining statuses; each poll moves to the next one, and the last one stays
    :param history: the training history to report
    :param polls: number of polls so far
    :param resumes: number of resumes so far
    """

    job_id: int
    body: dict[str, Any]
    states: list[str]
    history: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 0
    resumes: int = 0

    @property
    def state(self) -> str:
        """Current status."""
        return self.states[0]

    def status(self, *, is_poll: bool = True) -> dict[str, Any]:
        """Return the job as the API describes it.

        :param is_poll: whether this is a poll, after which the job moves to its next status
        """
        response = {
            "job_id": self.job_id,
            "status": self.state,
            "dataset_id": self.body.get("dataset_id"),
            "custom_model_name": self.body.get("custom_model_name"),
            "model_name": f"tuned-{self.job_id}" if self.state.endswith("COMPLETED") else None,
            "history": json.dumps(self.history),
        }
        if is_poll:
            self.polls += 1
            self.states = self.states[1:] or self.states
        return response


class TuningPlatform(ScriptedPlatform):
    """A fake platform with datasets, tuning jobs, model downloads and evaluation.

    :param blobs: store for uploaded datasets; None to store them in the platform
    :ivar datasets: rows by dataset id; for a dataset in the blob store, its reported number of rows
    :ivar jobs: tuning jobs by id
    :ivar script: statuses of each new job in turn; the last entry applies to all further jobs
    :ivar after_resume: statuses of each resumed job in turn; the last entry applies to all further jobs
    :ivar history: training history of all jobs
    :ivar downloads: remaining statuses by model; each list request moves to the next one
    :ivar metrics: metrics of every evaluation
    """

    dialect = LAMINI_DIALECT
    conn_type = "lamini"

    def __init__(self, blobs: BlobStore | None = None) -> None:
        super().__init__()
        self.blobs = blobs
        self.datasets: dict[str, list[dict[str, Any]] | int] = {}
        self.jobs: dict[str, Job] = {}
        self.script: list[tuple[str, ...]] = [WELL]
        self.after_resume: list[tuple[str, ...]] = [("TRAINING MODEL", "COMPLETED")]
        self.history: list[dict[str, Any]] = []
        self.downloads: dict[str, list[str]] = {}
        self.metrics: dict[str, Any] = {"accuracy": 0.9}

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        gets: list[tuple[str, Callable[..., Any]]] = [
            ("/v1/get-upload-base-path", self._base_path),
            ("/v1/train/jobs", self._list),
            (r"/v1/train/jobs/(\w+)", self._get_job),
            ("/v1alpha/downloaded_models/", self._models),
        ]
        posts: list[tuple[str, Callable[..., Any]]] = [
            ("/v1/local-data", self._local_data),
            ("/v1/data", self._data),
            ("/v1/data/num-datapoints", self._count),
            ("/v1/existing-data", self._existing),
            ("/v1/train", self._train),
            (r"/v1/train/jobs/(\w+)/cancel", self._cancel),
            (r"/v1/train/jobs/(\w+)/resume", self._resume),
            ("/v1alpha/downloaded_models/", self._download),
            ("/v1/eval/run", self._evaluate),
        ]
        return gets if method == "GET" else posts

    def _base_path(self, _: dict[str, Any]) -> dict[str, str]:
        return {"upload_base_path": "azure" if self.blobs else BASE_PATH}

    def _new_dataset(self, body: dict[str, Any]) -> str:
        if body["upload_base_path"] != ("azure" if self.blobs else BASE_PATH):
            raise Refusal(400, "wrong upload_base_path")
        return f"dataset{len(self.datasets) + 1}"

    def _local_data(self, body: dict[str, Any]) -> dict[str, str]:
        LocalDataRequest.model_validate(body)
        dataset_id = self._new_dataset(body)
        self.datasets[dataset_id] = body["data"]
        return {"dataset_id": dataset_id, "dataset_location": f"{BASE_PATH}/{dataset_id}.jsonl"}

    def _data(self, body: dict[str, Any]) -> dict[str, str]:
        CreateDatasetRequest.model_validate(body)
        dataset_id = self._new_dataset(body)
        self.datasets[dataset_id] = 0
        assert self.blobs is not None
        return {"dataset_id": dataset_id, "dataset_location": self.blobs.signed(f"/{dataset_id}.jsonl")}

    def _count(self, body: dict[str, Any]) -> dict[str, str]:
        NumDatapointsRequest.model_validate(body)
        assert self.blobs is not None
        if f"/{body['dataset_id']}.jsonl" not in self.blobs.blobs:
            raise Refusal(400, "the blob does not exist yet")
        self.datasets[body["dataset_id"]] = body["num_datapoints"]
        return {}

    def _existing(self, body: dict[str, Any]) -> dict[str, str]:
        ExistingDataRequest.model_validate(body)
        if body["dataset_id"] not in self.datasets:
            raise Refusal(404, "no such dataset")
        return {"dataset_location": f"{BASE_PATH}/{body['dataset_id']}.jsonl"}

    def _train(self, body: dict[str, Any]) -> dict[str, Any]:
        TrainRequest.model_validate(body)
        if not body["upload_file_path"].endswith(f"/{body['dataset_id']}.jsonl"):
            raise Refusal(400, "the file belongs to another dataset")
        states = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        job = Job(len(self.jobs) + 1, body, list(states), self.history)
        self.jobs[str(job.job_id)] = job
        return {"job_id": job.job_id, "status": job.state}

    def _job(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise Refusal(498, "no such job")
        return self.jobs[job_id]

    def _list(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return [job.status(is_poll=False) for job in self.jobs.values()]

    def _get_job(self, _: dict[str, Any], job_id: str) -> dict[str, Any]:
        return self._job(job_id).status()

    def _cancel(self, _: dict[str, Any], job_id: str) -> dict[str, str]:
        self._job(job_id).states = ["CANCELLED"]
        return {"status": "CANCELLED"}

    def _resume(self, _: dict[str, Any], job_id: str) -> dict[str, str]:
        job = self._job(job_id)
        if job.state not in ("FAILED", "CANCELLED", "TIMED OUT"):
            raise Refusal(400, "it has not ended")
        job.states = list(self.after_resume.pop(0) if len(self.after_resume) > 1 else self.after_resume[0])
        job.resumes += 1
        return {"status": job.state}

    def _models(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        listed = []
        for name, states in self.downloads.items():
            error = "no such model" if states[0] == "failed" else None
            listed.append({"model_name": name, "status": states[0], "prev_download_error": error})
            self.downloads[name] = states[1:] or states
        return listed

    def _download(self, body: dict[str, Any]) -> dict[str, Any]:
        DownloadModelRequest.model_validate(body)
        name = body["hf_model_name"]
        if name not in self.downloads:
            raise Refusal(594, "no such model")
        return {"model_name": name, "model_type": body["model_type"], "status": self.downloads[name][0]}

    def _evaluate(self, body: dict[str, Any]) -> dict[str, Any]:
        EvalRunRequest.model_validate(body)
        predictions = [{**row, "test_output": row["target"]} for row in body["eval_data"]]
        return {
            "eval_job_id": "e1",
            "eval_data_id": body["eval_data_id"],
            "status": "COMPLETED",
            "metrics": self.metrics,
            "predictions": predictions,
        }


@contextmanager
def tuning_platform(blobs: BlobStore | None = None) -> Iterator[TuningPlatform]:
    """Serve a platform during the block.

    :param blobs: store for uploaded datasets; None to store them in the platform
    """
    platform = TuningPlatform(blobs)
    with serving(platform):
        yield platform


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningPlatform]:
    """A platform that stores datasets itself. ``lamini_default`` points to it."""
    with tuning_platform() as platform:
        connect(monkeypatch, platform)
        yield platform


@pytest.fixture
def blobs() -> Iterator[BlobStore]:
    """A blob store for datasets."""
    with blob_store() as store:
        yield store


@pytest.fixture
def tuning_with_blobs(monkeypatch: pytest.MonkeyPatch, blobs: BlobStore) -> Iterator[TuningPlatform]:
    """A platform that stores datasets in a blob store. ``lamini_default`` points to it."""
    with tuning_platform(blobs) as platform:
        connect(monkeypatch, platform)
        yield platform


def connect(monkeypatch: pytest.MonkeyPatch, platform: TuningPlatform, **extra: object) -> None:
    """Define ``lamini_default`` in the environment, with a short retry budget.

    :param monkeypatch: sets the environment variable
    :param platform: the platform to connect to
    :param extra: more extras of the connection
    """
    ((name, value),) = environment(platform, **{"web_url": "https://web.test", **extra}).items()
    monkeypatch.setenv(name, value)


@dataclass(frozen=True, slots=True)
class LinkedTask(TaskInstance):
    """The identity and XCom part of Airflow's task instance.

    :param xcoms: pushed values by key
    """

    dag_id: str = "weekly"
    task_id: str = "train"
    xcoms: dict[str, object] = field(default_factory=dict)

    def xcom_push(self, key: str, value: object) -> None:
        """Record a value."""
        self.xcoms[key] = value

    def xcom_pull(self, key: str) -> object:
        """Return a recorded value."""
        return self.xcoms.get(key)
