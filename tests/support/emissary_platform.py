"""A fake Emissary on loopback: projects, datasets, scripted training jobs, deployments and engines, and echoing models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from airflow_provider_lamini.platforms.emissary.api.datasets import MAX_UPLOAD_BYTES
from airflow_provider_lamini.platforms.emissary.api.deployments import CreateDeploymentRequest
from airflow_provider_lamini.platforms.emissary.api.engines import (
    CreateEngineRequest,
    DeployOnEngineRequest,
    UndeployRequest,
)
from airflow_provider_lamini.platforms.emissary.api.inference import (
    ChatRequest,
    ClassificationRequest,
    CompletionRequest,
    EmbeddingRequest,
)
from airflow_provider_lamini.platforms.emissary.api.projects import CreateProjectRequest
from airflow_provider_lamini.platforms.emissary.api.training import GRPORequest, SFTRequest
from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from tests.support.scripted_platform import Refusal, ScriptedPlatform, environment, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.schema import Request

LOSSES = [{"timestamp": 100.0, "loss": 2.5}, {"timestamp": 200.0, "loss": 1.25}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass
class Item:
    """A thing with a status: a dataset, a training job, a deployment or an engine.

    :param fields: what the API shows besides id and status
    :param states: remaining statuses; each poll of the thing itself moves to the next one, and the last one stays
    :param project: the project that it belongs to; empty for an engine
    :param polls: number of polls so far
    """

    id: str
    fields: dict[str, Any]
    states: list[str]
    project: str = ""
    engine: str = ""
    polls: int = 0

    @property
    def state(self) -> str:
        """Current status."""
        return self.states[0]

    def look(self) -> None:
        """Move to the next status after a poll."""
        self.polls += 1
        self.states = self.states[1:] or self.states


@dataclass
class Scripts:
    """Statuses of each new thing of a kind, and after somebody has woken it."""

    dataset: tuple[str, ...] = ("uploading", "uploaded")
    training: tuple[str, ...] = ("Pending", "Running", "Testing", "Success")
    deployment: tuple[str, ...] = ("Pending", "Deploying", "Deployed")
    engine: tuple[str, ...] = ("Creating", "Active")
    woken_deployment: tuple[str, ...] = ("Deactivated", "Reactivating", "Deployed")
    woken_engine: tuple[str, ...] = ("Inactive", "Active")


class EmissaryPlatform(ScriptedPlatform):
    """A fake Emissary.

    :ivar scripts: the statuses of each new thing
    :ivar projects: names of projects by id
    :ivar datasets: datasets by id; ``content`` is the file
    :ivar trainings: training jobs by id; ``body`` is the request
    :ivar deployments: deployments by id; ``body`` is the request
    :ivar engines: engines by id; ``body`` is the request
    :ivar functions: names of test functions
    :ivar checkpoints: checkpoints of every training job
    :ivar prompts: texts that models were asked
    :ivar generate: makes a model's answer to a text
    :ivar finish_reason: why each answer ends
    """

    dialect = EMISSARY_DIALECT
    conn_type = "emissary"

    def __init__(self) -> None:
        super().__init__()
        self.scripts = Scripts()
        self.projects: dict[str, str] = {"ms-1": "support"}
        self.datasets: dict[str, Item] = {}
        self.trainings: dict[str, Item] = {}
        self.deployments: dict[str, Item] = {}
        self.engines: dict[str, Item] = {}
        self.functions = ["accuracy", "brevity"]
        self.checkpoints: list[dict[str, Any]] = [
            {"checkpoint": 100, "test_results": {"aggregated_test_result": {"accuracy": "0.75"}}},
            {"checkpoint": 200, "test_results": {"aggregated_test_result": {"accuracy": "0.70"}}},
        ]
        self.prompts: list[str] = []
        self.generate: Callable[[str], str] = str.upper
        self.finish_reason = "stop"

    def error_body(self, refusal: Refusal) -> Any:
        if refusal.detail is None:
            return None
        body = {"status": refusal.status, "error": refusal.detail}
        return body | ({"code": "object_not_found"} if refusal.status == 404 else {})

    def status_of(self, method: str, path: str, body: Any) -> int:
        if body is None:
            return 204
        creates = method == "POST" and not path.startswith(
            ("/v1/completions", "/v1/chat", "/v1/embeddings", "/v1/classification")
        )
        return 201 if creates else 200

    @property
    def created(self) -> int:
        """Number of things that were created, and still exist or not."""
        return sum(count for request, count in self.request_counts.items() if request.startswith("POST"))

    def new(self, kind: str, states: tuple[str, ...], **fields: Any) -> Item:
        """Create a thing as if somebody else had.

        :param kind: ``training``, ``deployment``, ``engine`` or ``dataset``
        :param states: its statuses
        :param fields: what the API shows of it
        """
        prefix = {"training": "tr", "deployment": "dp", "engine": "engine", "dataset": "ds"}[kind]
        items: dict[str, Item] = getattr(self, f"{kind}s")
        number = len(items) + 1
        while f"{prefix}-{number}" in items:
            number += 1
        item = Item(f"{prefix}-{number}", fields, list(states), "" if kind == "engine" else "ms-1")
        items[item.id] = item
        return item

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        project, ids = r"/v1/projects/([\w-]+)", r"([\w-]+)"
        if method == "GET":
            return [
                ("/v1/models", lambda _: [{"name": "base", "type": "chat"}]),
                ("/v1/testing-functions", lambda _: [{"name": name} for name in self.functions]),
                (
                    "/v1/projects",
                    lambda _: [{"id": key, "name": name} for key, name in self.projects.items()],
                ),
                (project, self._show_project),
                ("/v1/engines", lambda _: [self._shown(item) for item in self.engines.values()]),
                (f"/v1/engines/{ids}", self._show_engine),
                (f"{project}/datasets", lambda _, key: self._listed(self.datasets, key, self._dataset)),
                (f"{project}/training-jobs", lambda _, key: self._listed(self.trainings, key, self._shown)),
                (f"{project}/deployments", lambda _, key: self._listed(self.deployments, key, self._shown)),
                (f"{project}/datasets/{ids}", lambda _, key, at: self._polled(self.datasets, key, at)),
                (f"{project}/training-jobs/{ids}", lambda _, key, at: self._polled(self.trainings, key, at)),
                (f"{project}/deployments/{ids}", lambda _, key, at: self._polled(self.deployments, key, at)),
                (f"{project}/training-jobs/{ids}/checkpoints", self._list_checkpoints),
            ]
        if method == "DELETE":
            return [
                (project, self._delete_project),
                (f"/v1/engines/{ids}", lambda _, at: self._delete(self.engines, "", at)),
                (f"{project}/datasets/{ids}", lambda _, key, at: self._delete(self.datasets, key, at)),
                (f"{project}/training-jobs/{ids}", lambda _, key, at: self._delete(self.trainings, key, at)),
                (f"{project}/deployments/{ids}", lambda _, key, at: self._delete(self.deployments, key, at)),
            ]
        return [
            ("/v1/projects", self._create_project),
            (f"{project}/datasets", self._upload),
            (f"{project}/training-jobs", lambda body, key: self._train(SFTRequest, body, key)),
            (f"{project}/training-jobs/grpo", lambda body, key: self._train(GRPORequest, body, key)),
            (f"{project}/training-jobs/{ids}/cancel", self._cancel),
            (f"{project}/deployments", self._deploy),
            (f"{project}/deployments/{ids}/reactivate", self._wake_deployment),
            ("/v1/engines", self._create_engine),
            (f"/v1/engines/{ids}/deploy", self._deploy_on_engine),
            (f"/v1/engines/{ids}/undeploy", self._undeploy),
            (f"/v1/engines/{ids}/reactivate", self._wake_engine),
            (f"/v1/engines/{ids}/deactivate", self._park_engine),
            ("/v1/completions", self._complete),
            ("/v1/chat/completions", self._chat),
            ("/v1/embeddings", self._compare),
            ("/v1/classification", self._classify),
        ]

    # ---- what it shows ---------------------------------------------------------------------------------------

    def _known(self, project: str) -> None:
        if project not in self.projects:
            raise Refusal(404, "no such project")

    def _find(self, items: dict[str, Item], project: str, at: str) -> Item:
        if project:
            self._known(project)
        item = items.get(at)
        if item is None or item.project != project:
            raise Refusal(404, "Not found")
        return item

    @staticmethod
    def _shown(item: Item) -> dict[str, Any]:
        shown = {"id": item.id, "status": item.state, **item.fields}
        return {name: value for name, value in shown.items() if name != "content"}

    @staticmethod
    def _dataset(item: Item) -> dict[str, Any]:
        name = item.fields.get("name")
        return {"id": item.id, "name": name, "is_uploaded": item.state == "uploaded"}

    def _listed(self, items: dict[str, Item], project: str, show: Callable[[Item], Any]) -> list[Any]:
        self._known(project)
        return [show(item) for item in items.values() if item.project == project]

    def _polled(self, items: dict[str, Item], project: str, at: str) -> dict[str, Any]:
        item = self._find(items, project, at)
        shown = self._dataset(item) if items is self.datasets else self._shown(item)
        if items is self.trainings:
            shown["training_loss"] = LOSSES
        item.look()
        return shown

    def _show_project(self, _: dict[str, Any], project: str) -> dict[str, Any]:
        self._known(project)
        return {
            "id": project,
            "name": self.projects[project],
            "datasets": self._listed(self.datasets, project, self._dataset),
            "training_jobs": self._listed(self.trainings, project, self._shown),
            "deployments": self._listed(self.deployments, project, self._shown),
        }

    def _show_engine(self, _: dict[str, Any], at: str) -> dict[str, Any]:
        engine = self._find(self.engines, "", at)
        on_it = [self._shown(item) for item in self.deployments.values() if item.engine == at]
        shown = self._shown(engine) | {"deployments": on_it}
        engine.look()
        return shown

    def _list_checkpoints(self, _: dict[str, Any], project: str, at: str) -> list[dict[str, Any]]:
        self._find(self.trainings, project, at)
        return self.checkpoints

    # ---- what changes it -------------------------------------------------------------------------------------

    @staticmethod
    def _check(model: type[Request], body: dict[str, Any]) -> None:
        try:
            model.model_validate(body)
        except ValidationError as error:
            raise Refusal(400, str(error)) from error

    def _create_project(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(CreateProjectRequest, body)
        key = f"ms-{len(self.projects) + 1}"
        self.projects[key] = body.get("name", key)
        return {"id": key, "name": self.projects[key]}

    def _delete_project(self, _: dict[str, Any], project: str) -> None:
        self._known(project)
        del self.projects[project]
        for items in (self.datasets, self.trainings, self.deployments):
            for at in [at for at, item in items.items() if item.project == project]:
                del items[at]

    def _delete(self, items: dict[str, Item], project: str, at: str) -> None:
        self._find(items, project, at)
        del items[at]

    def _new(self, kind: str, project: str, body: dict[str, Any], **fields: Any) -> Item:
        self._known(project)
        item = self.new(kind, getattr(self.scripts, kind), body=body, name=body.get("name"), **fields)
        item.project = project
        return item

    def _upload(self, body: dict[str, Any], project: str) -> dict[str, Any]:
        ((_, content),) = body["files"].items()
        if len(content) > MAX_UPLOAD_BYTES:
            raise Refusal(400, "the file is too large")
        item = self._new("dataset", project, {"name": body.get("name")}, content=content)
        return self._dataset(item)

    def _train(self, model: type[Request], body: dict[str, Any], project: str) -> dict[str, Any]:
        self._check(model, body)
        self._find(self.datasets, project, body["train_dataset_id"])
        technique = "GRPO" if model is GRPORequest else "SFT"
        return self._shown(self._new("training", project, body, training_technique=technique, progress=75))

    def _cancel(self, _: dict[str, Any], project: str, at: str) -> None:
        self._find(self.trainings, project, at).states = ["Cancelled"]

    def _deploy(self, body: dict[str, Any], project: str) -> dict[str, Any]:
        self._check(CreateDeploymentRequest, body)
        fields = {"training_id": body["training_job_id"], "checkpoint": body["checkpoint"]}
        return self._shown(self._new("deployment", project, body, **fields))

    def _wake_deployment(self, _: dict[str, Any], project: str, at: str) -> None:
        item = self._find(self.deployments, project, at)
        if item.state != "Deactivated":
            raise Refusal(400, None)
        item.states = list(self.scripts.woken_deployment)

    def _create_engine(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check(CreateEngineRequest, body)
        item = self.new(
            "engine", self.scripts.engine, body=body, name=body.get("name"), base_model=body["base_model"]
        )
        return self._shown(item)

    def _deploy_on_engine(self, body: dict[str, Any], at: str) -> dict[str, Any]:
        self._check(DeployOnEngineRequest, body)
        self._find(self.engines, "", at)
        fields = {"training_id": body["training_id"], "checkpoint": body["checkpoint"]}
        item = self._new("deployment", body["project_id"], body, **fields)
        item.engine = at
        return self._shown(item)

    def _undeploy(self, body: dict[str, Any], at: str) -> None:
        self._check(UndeployRequest, body)
        self._find(self.engines, "", at)
        for item in self.deployments.values():
            if item.engine == at and item.fields["name"] == body["deployment_name"]:
                del self.deployments[item.id]
                return
        raise Refusal(400, "no such deployment")

    def _wake_engine(self, _: dict[str, Any], at: str) -> None:
        engine = self._find(self.engines, "", at)
        if engine.state != "Inactive":
            raise Refusal(400, None)
        engine.states = list(self.scripts.woken_engine)

    def _park_engine(self, _: dict[str, Any], at: str) -> None:
        engine = self._find(self.engines, "", at)
        if engine.state != "Active":
            raise Refusal(400, None)
        engine.states = ["Active", "Inactive"]

    # ---- inference -------------------------------------------------------------------------------------------

    def _ask(self, model: type[Request], body: dict[str, Any], text: str) -> None:
        self._check(model, body)
        found = [item for item in self.deployments.values() if item.fields.get("name") == body["model"]]
        if body["model"] != "base" and not any(item.state == "Deployed" for item in found):
            raise Refusal(400, "it is not deployed") if found else Refusal(404, "no such deployment")
        self.prompts.append(text)

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ask(CompletionRequest, body, body.get("prompt", ""))
        return {
            "choices": [{"text": self.generate(body["prompt"]), "finish_reason": self.finish_reason}],
            "usage": USAGE,
        }

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ask(ChatRequest, body, body.get("messages", [{}])[-1].get("content", ""))
        message = {"role": "assistant", "content": self.generate(body["messages"][-1]["content"])}
        return {"choices": [{"message": message, "finish_reason": self.finish_reason}], "usage": USAGE}

    def _compare(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ask(EmbeddingRequest, body, body.get("input", ""))
        scores: dict[str, Any] = {"input_embedding": [1.0, 0.0], "target_embedding": [0.0, 1.0]}
        if body.get("cosine"):
            scores["cosine_score"] = float(body["input"] == body["target"])
        if body.get("manhattan"):
            scores["manhattan_distance"] = 2.0
        if body.get("euclidean"):
            scores["euclidean_distance"] = 2.0**0.5
        return {"id": "rq-1", "response": scores}

    def _classify(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ask(ClassificationRequest, body, body.get("input", ""))
        spam = "buy" in body["input"]
        if body.get("data_format") == "probs":
            scores = {"probs": {"spam": 0.75 if spam else 0.25, "ham": 0.25 if spam else 0.75}}
        else:
            scores = {"logits": {"spam": 2.0 if spam else -1.0, "ham": 0.5}}
        return {"data": [{"index": 0, **scores}], "usage": {**USAGE, "prompt_token_details": "none"}}


@pytest.fixture
def emissary(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmissaryPlatform]:
    """A platform with one project. ``emissary_default`` points to it."""
    platform = EmissaryPlatform()
    with serving(platform):
        for name, value in environment(platform).items():
            monkeypatch.setenv(name, value)
        yield platform
