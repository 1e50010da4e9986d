"""A fake platform on loopback with scripted Memory RAG indexes and classifiers, which validates requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.platforms.lamini.api.classifiers import (
    ClassifierAddRequest,
    ClassifierInitializeRequest,
    ClassifierTrainRequest,
    ClassifierUpdateJobRequest,
    ClassifyRequest,
)
from airflow_provider_lamini.platforms.lamini.api.memory_rag import (
    MemoryRagAddIndexRequest,
    MemoryRagCompletionsRequest,
    MemoryRagJobRequest,
)
from tests.support.scripted_platform import Refusal, serving
from tests.support.tuning_platform import TuningPlatform, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READY = ("CREATED", "COMPLETED")
RAG = "/alpha/memory-rag"


class Scripted:
    """A job that moves through statuses.

    :param states: the statuses; each poll moves to the next one, and the last one stays
    """

    def __init__(self, states: tuple[str, ...]) -> None:
        self.states = list(states)
        self.files: dict[str, bytes] = {}
        self.texts: list[str] = []
        self.project = ""

    def poll(self) -> str:
        """Return the status, and move to the next one."""
        state = self.states[0]
        self.states = self.states[1:] or self.states
        return state


class KnowledgePlatform(TuningPlatform):
    """A fake platform with Memory RAG and classifiers.

    :ivar script: statuses of each new job in turn; the last entry applies to all further jobs
    :ivar indexes: Memory RAG indexes by job id
    :ivar trainings: classifier jobs by id; a model's id is ``model-<job>``
    :ivar projects: datasets by classifier project
    :ivar refuse_once: HTTP status by text, with which adding the text fails once
    :ivar log: log lines of every build
    :ivar reason: ``detail`` of every classifier status response; None leaves it out
    :ivar names_models: whether the status of a completed classifier job contains the model id
    :ivar lists_models: whether a project's list of models contains its models
    :ivar omits_last_text: whether classification leaves out the last text
    """

    def __init__(self) -> None:
        super().__init__()
        self.script = [READY]
        self.indexes: dict[str, Scripted] = {}
        self.trainings: dict[str, Scripted] = {}
        self.projects: dict[str, dict[str, dict[str, list[str]]]] = {}
        self.refuse_once: dict[str, int] = {}
        self.log: list[str] = []
        self.reason: Any = None
        self.names_models = True
        self.lists_models = True
        self.omits_last_text = False

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        if method == "GET":
            return [
                (rf"{RAG}/training_log/(\d+)", lambda _, __: self.log),
                (r"/v2/classifier/projects", lambda _: list(self.projects)),
                (r"/v2/classifier/([\w-]+)/status", self._classifier_status),
                (r"/v2/classifier/([\w-]+)/datasets", lambda _, name: list(self._project(name))),
                (r"/v2/classifier/([\w-]+)/jobs", self._classifier_jobs),
                (r"/v2/classifier/([\w-]+)/models", self._classifier_models),
                *super()._routes(method),
            ]
        return [
            (f"{RAG}/train", self._build),
            (f"{RAG}/status", self._rag_status),
            (f"{RAG}/add-index", self._add_text),
            (f"{RAG}/completions", self._complete_with_index),
            ("/v2/classifier/initialize", self._initialize),
            ("/v2/classifier/add", self._add_examples),
            ("/v2/classifier/train", self._train_classifier),
            ("/v2/classifier/update_job", self._update_job),
            (r"/v2/classifier/([\w-]+)/classify", self._classify),
            *super()._routes(method),
        ]

    def _scripted(self) -> Scripted:
        return Scripted(self.script.pop(0) if len(self.script) > 1 else self.script[0])

    # -- Memory RAG

    def _build(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body["files"] or not body["model_name"]:
            raise Refusal(422, "files and model_name are needed")
        index = self._scripted()
        index.files = body["files"]
        self.indexes[str(len(self.indexes) + 1)] = index
        return {"job_id": len(self.indexes), "status": index.states[0]}

    def _index(self, body: dict[str, Any]) -> Scripted:
        if str(body["job_id"]) not in self.indexes:
            raise Refusal(498, "no such job")
        return self.indexes[str(body["job_id"])]

    def _ready(self, body: dict[str, Any]) -> Scripted:
        index = self._index(body)
        if index.states[0] != "COMPLETED":
            raise Refusal(400, f"The job's status is not COMPLETED, current status: {index.states[0]}.")
        return index

    def _rag_status(self, body: dict[str, Any]) -> dict[str, Any]:
        MemoryRagJobRequest.model_validate(body)
        return {"outputs": {"status": self._index(body).poll()}}

    def _add_text(self, body: dict[str, Any]) -> dict[str, Any]:
        MemoryRagAddIndexRequest.model_validate(body)
        if body["prompt"] in self.refuse_once:
            raise Refusal(self.refuse_once.pop(body["prompt"]), "not now")
        self._ready(body).texts.append(body["prompt"])
        return {"job_id": body["job_id"], "status": "success"}

    def _complete_with_index(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the documents that contain the prompt's first word."""
        MemoryRagCompletionsRequest.model_validate(body)
        index = self._ready(body)
        if "refuse" in body["prompt"]:
            raise Refusal(422, "the prompt is refused")
        texts = [*(file.decode() for file in index.files.values()), *index.texts]
        matches = [text for text in texts if body["prompt"].split()[0] in text]
        return {
            "outputs": " / ".join(matches[: body.get("rag_query_size", 3)]) or "nothing",
            "finish_reason": "stop",
        }

    # -- classifiers

    def _project(self, name: str) -> dict[str, dict[str, list[str]]]:
        if name not in self.projects:
            raise Refusal(499, "no such project")
        return self.projects[name]

    def _start(self, project: str) -> dict[str, Any]:
        job = self._scripted()
        job.project = project
        job_id = f"c{len(self.trainings) + 1}"
        self.trainings[job_id] = job
        return {"job_id": job_id, "status": job.states[0], "model_id": None}

    def _initialize(self, body: dict[str, Any]) -> dict[str, Any]:
        ClassifierInitializeRequest.model_validate(body)
        if body["name"] in self.projects:
            raise Refusal(497, "the project exists")
        self.projects[body["name"]] = {}
        return self._start(body["name"])

    def _add_examples(self, body: dict[str, Any]) -> dict[str, str]:
        ClassifierAddRequest.model_validate(body)
        datasets = self._project(body["project_name"])
        if body["dataset_name"] in datasets:
            raise Refusal(497, "the dataset exists")
        datasets[body["dataset_name"]] = body["data"]
        return {}

    def _train_classifier(self, body: dict[str, Any]) -> dict[str, Any]:
        ClassifierTrainRequest.model_validate(body)
        self._project(body["name"])
        return self._start(body["name"])

    def _update_job(self, body: dict[str, Any]) -> dict[str, str]:
        ClassifierUpdateJobRequest.model_validate(body)
        self.trainings[body["job_id"]].states = [body["status"]]
        return {}

    def _classifier_status(self, _: dict[str, Any], job_id: str) -> dict[str, Any]:
        if job_id not in self.trainings:
            raise Refusal(498, "no such job")
        state = self.trainings[job_id].poll()
        has_model = state == "COMPLETED" and self.names_models
        detail = {} if self.reason is None else {"detail": self.reason}
        return {"status": state, "model_id": f"model-{job_id}" if has_model else None, **detail}

    def _classifier_jobs(self, _: dict[str, Any], project: str) -> list[dict[str, Any]]:
        self._project(project)
        jobs = [(job_id, job) for job_id, job in self.trainings.items() if job.project == project]
        return [{"job_id": job_id, "status": job.states[0]} for job_id, job in jobs]

    def _classifier_models(self, _: dict[str, Any], project: str) -> list[dict[str, Any]]:
        jobs = self._classifier_jobs({}, project) if self.lists_models else []
        return [{"model_id": f"model-{job['job_id']}", "job_id": job["job_id"]} for job in jobs]

    def _classify(self, body: dict[str, Any], model_id: str) -> dict[str, Any]:
        """Classify each text by how often it contains the class names."""
        ClassifyRequest.model_validate(body)
        if not model_id.startswith("model-"):
            raise Refusal(594, "no such model")
        prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
        if any("refuse" in prompt for prompt in prompts):
            raise Refusal(422, "a text is refused")
        if self.omits_last_text:
            prompts = prompts[:-1]
        return {"classification": [self._scores(prompt, body) for prompt in prompts]}

    @staticmethod
    def _scores(text: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        names = re.findall(r"spam|ham|eggs", text)
        scores = {name: names.count(name) / max(1, len(names)) for name in ("spam", "ham", "eggs")}
        best = sorted(scores.items(), key=lambda score: -score[1])[: body.get("top_n")]
        return [
            {"class_id": number, "class_name": name, "prob": prob}
            for number, (name, prob) in enumerate(best)
            if prob >= body.get("threshold", 0)
        ]


@pytest.fixture
def knowledge(monkeypatch: pytest.MonkeyPatch) -> Iterator[KnowledgePlatform]:
    """A platform with Memory RAG and classifiers. ``lamini_default`` points to it."""
    platform = KnowledgePlatform()
    with serving(platform):
        connect(monkeypatch, platform)
        yield platform
