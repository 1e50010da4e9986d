"""The requests of each kind of task, and the outcome of a task when the platform fails."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskDeferred

from tests.support.faulty_platform import MODEL, Fault, FaultyPlatform, faulty_platform
from tests.support.tasks import TaskInstance, begin, resume, run_to_end
from tests.support.upstream import text_for, vector_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROMPTS = ["one of three", "two of three", "three of three"]
ROWS = [{"input": prompt, "output": "an answer"} for prompt in PROMPTS]
TASK = TaskInstance()
SHORT_BUDGET, LONG_BUDGET = 1.5, 30
"""Retry budgets in seconds: for a fault that never ends, and for one that ends. The latter is enough for a busy machine."""


@dataclass(frozen=True)
class TaskRequests:
    """The requests of a kind of task. Each is a regular expression for ``METHOD /path``.

    :param submits: starts the job, or returns the rows at once
    :param polls: polls the job's status
    :param fetches: fetches the job's result
    :param lost: what the next try does about a submission whose response was lost: ``again`` submits again, ``found`` finds
        the job in a list, ``asks`` fails until a user decides
    """

    operator: str
    submits: str
    polls: str | None = None
    fetches: str | None = None
    lost: str = "again"


KINDS = {
    "batch": TaskRequests(
        "batch_inference.LaminiBatchInferenceOperator",
        submits="POST /v1/batch_completions",
        polls="GET /v1/batch_completions/b1/result",
        fetches="GET /v1/batch_completions/.*/result",
    ),
    "vectors": TaskRequests(
        "embedding.LaminiEmbeddingOperator",
        submits="POST /v1/batch_embeddings",
        polls="GET /v1/batch_embeddings/b1/result",
        fetches="GET /v1/batch_embeddings/.*/result",
    ),
    "completions": TaskRequests(
        "batch_inference.LaminiBatchInferenceOperator", submits="POST /v2/completions"
    ),
    "chat": TaskRequests(
        "batch_inference.LaminiBatchInferenceOperator", submits="POST /inf/chat/completions"
    ),
    "embedding": TaskRequests("embedding.LaminiEmbeddingOperator", submits="POST /v1/embedding"),
    "train": TaskRequests(
        "train.LaminiTrainOperator",
        submits="POST /v1/train",
        polls="GET /v1/train/jobs/1",
        fetches="GET /v1/train/jobs/1",
        lost="found",
    ),
    "memory rag": TaskRequests(
        "memory_rag_build.LaminiMemoryRagBuildOperator",
        submits="POST /alpha/memory-rag/train",
        polls="POST /alpha/memory-rag/status",
        lost="asks",
    ),
    "classifier": TaskRequests(
        "classifier_train.LaminiClassifierTrainOperator",
        submits="POST /v2/classifier/initialize",
        polls="GET /v2/classifier/c1/status",
        fetches="GET /v2/classifier/c1/status",
        lost="found",
    ),
    "upload": TaskRequests("upload_dataset.LaminiUploadDatasetOperator", submits="POST /v1/local-data"),
}
DIRECT = ("completions", "chat", "embedding")


@dataclass(frozen=True)
class Case:
    """A fault in one phase of one kind of task.

    :param kind: name of the kind
    :param phase: ``submit``, ``trigger``, ``worker``, ``fetch`` or ``direct``
    :param fault: the fault
    :param read_timeout: read timeout of the connection in seconds
    :param times_out: whether the task is expected to reach its timeout
    """

    kind: str
    phase: str
    name: str
    fault: Fault
    read_timeout: float = 10.0
    times_out: bool = False

    @property
    def id(self) -> str:
        """The case's name in messages."""
        return f"{self.name}, {self.kind} {self.phase}"


@dataclass
class Observed:
    """The outcome of a task.

    :param error: error of the try during the fault
    :param started: number of jobs that the platform had started by then
    :param next_error: error of the next try, when the platform works again
    :param finally_started: number of jobs that the platform started in total
    :param correct: whether the task finally returned the correct result
    """

    error: BaseException | None = None
    started: int = 0
    next_error: BaseException | None = None
    finally_started: int = 0
    correct: bool = False


def run_case(case: Case, folder: Path, authority: Path, good_certificate: Path) -> Observed:
    """Run a task during a fault, and again after it. The caller restores the environment variables.

    :param case: the case
    :param folder: an empty folder
    :param authority: PEM file of the authority to trust
    :param good_certificate: PEM file of a valid certificate, presented after a fault with a certificate
    """
    observed, conn_id = Observed(), f"lamini_{abs(hash(case.id))}"
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    with faulty_platform(good_certificate if case.fault.certificate else None) as platform:
        platform.script = [("CREATED", "TRAINING MODEL", "COMPLETED")]
        platform.datasets["given"] = ROWS
        before = platform.started
        fields = {"conn_type": "lamini", "host": platform.url, "password": platform.key}
        extra = {"ca_path": str(authority)} if case.fault.certificate else {}
        budget = SHORT_BUDGET if case.fault.times is None else LONG_BUDGET
        client_options = {
            "read_timeout": case.read_timeout,
            "retry_budget": budget,
            "model_loading_budget": budget,
        }
        # The variable stays: another case may be copying the environment, which fails if a variable vanishes.
        os.environ[variable] = json.dumps(fields | {"extra": extra | client_options})
        make = maker(case.kind, folder, conn_id)
        try:
            _run_with_fault(case, platform, make)
        except Exception as error:  # noqa: BLE001 - the test compares it
            observed.error = error
        observed.started = platform.started - before
        platform.clear_faults()
        os.environ[variable] = json.dumps(fields | {"extra": extra})
        try:
            observed.correct = is_correct(case.kind, run_to_end(make(), TASK).result, folder)
        except Exception as error:  # noqa: BLE001 - the test compares it
            observed.next_error = error
        observed.finally_started = platform.started - before
    return observed


def _run_with_fault(case: Case, platform: FaultyPlatform, make: Callable[..., Callable[[], Any]]) -> None:
    requests = KINDS[case.kind]
    timeout = 2.5 if case.times_out else 30
    if case.phase in ("submit", "direct"):
        platform.inject(requests.submits, case.fault)
        run_to_end(make(), TASK)
    elif case.phase == "trigger":
        run_to_end(
            make(timeout=timeout),
            TASK,
            while_deferred=lambda _: platform.inject(str(requests.polls), case.fault),
        )
    elif case.phase == "worker":
        platform.inject(str(requests.polls), replace(case.fault, min_started=platform.started + 1))
        run_to_end(make(deferrable=False, timeout=timeout), TASK)
    else:
        deferral = begin(make(), TASK)
        event = deferral.wait()
        platform.inject(str(requests.fetches), case.fault)
        try:
            resume(make(), deferral, event, TASK)
        except TaskDeferred:  # rows were submitted again
            run_to_end(make(), TASK)


def maker(kind: str, folder: Path, conn_id: str) -> Callable[..., Callable[[], Any]]:
    """Return a function that takes arguments and returns a factory of a kind's operator, deferred, with short intervals.

    :param kind: name of the kind
    :param folder: folder for input, output and records
    :param conn_id: connection id
    """
    from importlib import import_module

    module, name = KINDS[kind].operator.split(".")
    operator_class = getattr(import_module(f"airflow_provider_lamini.operators.{module}"), name)
    quick = type(f"Quick{name}", (operator_class,), {"list_delay": 0.05})
    fixed = {"task_id": "infer", "lamini_conn_id": conn_id} | _arguments(kind, folder)
    if kind != "upload":
        fixed |= {"deferrable": True, "poll_interval": 0.1}

    def factory(**arguments: object) -> Callable[[], Any]:
        return lambda: quick(**(fixed | arguments))

    return factory


def _arguments(kind: str, folder: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "input": PROMPTS,
        "output": str(folder / "out"),
        "model_name": MODEL,
        "max_in_flight": 2,
    }
    recorded: dict[str, Any] = {"state_path": str(folder / "state")}
    documents = folder / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    (documents / "a.txt").write_text("a document about ham")
    return {
        "batch": rows,
        "vectors": rows,
        "completions": rows | {"endpoint": "completions"},
        "chat": rows | {"endpoint": "chat"},
        "embedding": rows | {"endpoint": "embedding"},
        "train": recorded | {"model_name": MODEL, "dataset_id": "given", "custom_model_name": "weekly"},
        "memory rag": recorded | {"model_name": MODEL, "files": str(documents)},
        "classifier": recorded
        | {"project": "mail", "model_name": MODEL, "classes": {"spam": "bad mail", "ham": "good mail"}},
        "upload": recorded | {"input": ROWS, "prompt": "input", "answer": "output"},
    }[kind]


def is_correct(kind: str, result: dict[str, Any], folder: Path) -> bool:
    """Return whether a task returned and wrote the correct result."""
    if kind == "upload":
        return bool(result["rows"] == len(ROWS))
    if kind in ("train", "memory rag", "classifier"):
        return str(result["status"]).endswith("COMPLETED")
    lines = (folder / "out" / "part-00000.jsonl").read_text().splitlines()
    expected: list[Any] = [text_for(prompt) for prompt in PROMPTS]
    if kind in ("vectors", "embedding"):
        expected = [vector_for(prompt) for prompt in PROMPTS]
    rows = [json.loads(line) for line in lines]
    outputs = [row.get("output", row.get("embedding", row.get("vector"))) for row in rows]
    return len(outputs) == len(expected) and all(map(_same, outputs, expected))


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, list):
        return len(one) == len(other) and all(abs(a - b) < 1e-6 for a, b in zip(one, other, strict=True))
    return bool(one == other)
