"""A platform on loopback that keeps datasets and tunes models by a script, and checks what it is asked."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
from tests.support.blob_store import BlobStore, blob_store
from tests.support.serving import served
from tests.support.tasks import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "a-key-for-tests"
BASE_PATH = "/app/datasets"
WELL = ("CREATED", "TRAINING MODEL", "COMPLETED")


@dataclass
class Job:
    """A tuning job.

    :param states: the states that it goes through, one more with each look; the last one stays
    """

    job_id: int
    body: dict[str, Any]
    states: list[str]
    history: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0
    resumes: int = 0

    @property
    def state(self) -> str:
        """The state now."""
        return self.states[0]

    def answer(self, *, look: bool = True) -> dict[str, Any]:
        """What the platform tells of the job; a look takes it one state further."""
        told = {
            "job_id": self.job_id,
            "status": self.state,
            "dataset_id": self.body.get("dataset_id"),
            "custom_model_name": self.body.get("custom_model_name"),
            "model_name": f"tuned-{self.job_id}" if self.state.endswith("COMPLETED") else None,
            "history": json.dumps(self.history),
        }
        if look:
            self.looks += 1
            self.states = self.states[1:] or self.states
        return told


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that is no success."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail


class TuningPlatform:
    """The platform.

    :ivar url: its base URL
    :ivar blobs: the store that datasets go to; without one the platform keeps them itself
    :ivar datasets: the rows of each dataset; of one in the store, how many there are said to be
    :ivar jobs: the tuning jobs
    :ivar script: the states of the next jobs; the last entry is for all further ones
    :ivar after_resume: the states of the next jobs that are resumed
    :ivar away: whether it breaks each connection, as if it was restarting
    :ivar drop: paths where the connection of the next POST breaks before anything is done
    :ivar lose: paths whose next answer is lost after the work was done
    :ivar fail: paths whose next answer is this status and detail, before anything is done
    :ivar downloads: the states of each model, one more with each look
    :ivar asked: how often each path was asked, with its method
    :ivar bodies: what was sent, in order
    """

    def __init__(self, blobs: BlobStore | None = None) -> None:
        self.url = ""
        self.key = KEY
        self.blobs = blobs
        self.datasets: dict[str, list[dict[str, Any]] | int] = {}
        self.jobs: dict[str, Job] = {}
        self.script: list[tuple[str, ...]] = [WELL]
        self.after_resume: list[tuple[str, ...]] = [("TRAINING MODEL", "COMPLETED")]
        self.history: list[dict[str, Any]] = []
        self.away = False
        self.drop: list[str] = []
        self.lose: list[str] = []
        self.fail: dict[str, list[tuple[int, Any]]] = {}
        self.downloads: dict[str, list[str]] = {}
        self.metrics: dict[str, Any] = {"accuracy": 0.9}
        self.asked: Counter[str] = Counter()
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.RLock()

    def sent(self, path: str) -> list[dict[str, Any]]:
        """The bodies that came to a path."""
        return [body for where, body in self.bodies if where == path]

    def breaks_off(self, method: str, path: str) -> bool:
        """Whether a request gets no answer, and nothing is done."""
        if method == "POST" and path in self.drop:
            self.drop.remove(path)
            return True
        return self.away

    def answer(self, method: str, path: str, key: str, content: bytes) -> Any:
        """Carry one request out.

        :raises Refusal: in place of an answer
        """
        with self._lock:
            self.asked[f"{method} {path}"] += 1
            if key != f"Bearer {self.key}":
                raise Refusal(401, "wrong key")
            if self.fail.get(path):
                raise Refusal(*self.fail[path].pop(0))
            body = self._read(content)
            if method == "POST":
                self.bodies.append((path, body))
            for pattern, act in self._routes(method):
                found = re.fullmatch(pattern, path)
                if found:
                    return act(body, *found.groups())
            raise Refusal(404, "Not Found")

    def _read(self, content: bytes) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(content) if content else {}
        return body

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        gets: list[tuple[str, Callable[..., Any]]] = [
            ("/v1/get-upload-base-path", self._base_path),
            ("/v1/train/jobs", self._list),
            (r"/v1/train/jobs/(\w+)", self._look),
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
            raise Refusal(400, "another upload_base_path")
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
            raise Refusal(400, "the blob is not there yet")
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
            raise Refusal(400, "the file is another dataset's")
        states = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        job = Job(len(self.jobs) + 1, body, list(states), self.history)
        self.jobs[str(job.job_id)] = job
        return {"job_id": job.job_id, "status": job.state}

    def _job(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise Refusal(498, "no such job")
        return self.jobs[job_id]

    def _list(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return [job.answer(look=False) for job in self.jobs.values()]

    def _look(self, _: dict[str, Any], job_id: str) -> dict[str, Any]:
        return self._job(job_id).answer()

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
    """Serve a platform.

    :param blobs: the store that datasets go to; without one the platform keeps them itself
    """
    platform = TuningPlatform(blobs)
    with serving(platform):
        yield platform


@contextmanager
def serving(platform: TuningPlatform) -> Iterator[None]:
    """Serve a platform while the block lasts.

    :param platform: the platform; its ``url`` is set
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if platform.breaks_off(method, self.path):
                self._break()
                return
            try:
                answer = platform.answer(method, self.path, self.headers.get("Authorization", ""), content)
                status = 200
            except Refusal as refusal:
                status, answer = refusal.status, {"detail": refusal.detail}
            if self.path in platform.lose:
                platform.lose.remove(self.path)
                self._break()
                return
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _break(self) -> None:
            self.close_connection = True
            self.connection.close()

        def log_message(self, *_: object) -> None:
            """The test prints nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A connection that was closed on purpose is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    with served(server) as address:
        platform.url = f"http://{address}"
        yield


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Iterator[TuningPlatform]:
    """A platform that keeps datasets itself; ``lamini_default`` leads to it."""
    with tuning_platform() as platform:
        connect(monkeypatch, platform)
        yield platform


@pytest.fixture
def blobs() -> Iterator[BlobStore]:
    """A store for datasets."""
    with blob_store() as store:
        yield store


@pytest.fixture
def tuning_with_blobs(monkeypatch: pytest.MonkeyPatch, blobs: BlobStore) -> Iterator[TuningPlatform]:
    """A platform that keeps datasets in a store; ``lamini_default`` leads to it."""
    with tuning_platform(blobs) as platform:
        connect(monkeypatch, platform)
        yield platform


def connect(monkeypatch: pytest.MonkeyPatch, platform: TuningPlatform, **extra: object) -> None:
    """Define ``lamini_default`` in the environment, with little patience.

    :param extra: extras of the connection besides
    """
    fields = {
        "conn_type": "lamini",
        "host": platform.url,
        "password": platform.key,
        "extra": {"retry_budget": 2, "web_url": "https://web.test", **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))


@dataclass(frozen=True, slots=True)
class LinkedTask(TaskInstance):
    """The part of Airflow's task instance that says who runs, and takes what the task tells.

    :param xcoms: what was told
    """

    dag_id: str = "weekly"
    task_id: str = "train"
    xcoms: dict[str, object] = field(default_factory=dict)

    def xcom_push(self, key: str, value: object) -> None:
        """Take a value."""
        self.xcoms[key] = value
