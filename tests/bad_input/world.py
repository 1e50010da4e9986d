"""A platform that answers every operator at once, and for each operator arguments that it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

import airflow_provider_lamini.operators
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.sensors.job import LaminiJobSensor
from tests.support.knowledge_platform import RAG, KnowledgePlatform, Scripted
from tests.support.tasks import execute
from tests.support.tuning_platform import Job, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.bad_input.cases import Case

SECRET = "opensesame"
LONGEST = 700
"""Characters that a message may have."""
LOOKS = (f"POST {RAG}/status",)
"""Requests that only ask how something stands, though they are posts."""


class StrictPlatform(KnowledgePlatform):
    """The platform of the other tests, with models that repeat their prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, list[str]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what was asked. One job of each kind has ended, and one model is there."""
        for each in (self.batches, self.datasets, self.jobs, self.indexes, self.trainings, self.projects):
            each.clear()
        self.asked.clear()
        self.bodies.clear()
        self.jobs["1"] = Job(1, {}, ["COMPLETED"])
        self.indexes["1"] = Scripted(("COMPLETED",))
        self.downloads = {"m": ["available"]}

    @property
    def work(self) -> dict[str, int]:
        """What it was asked to start, to take or to change, by path."""
        return {
            request: count
            for request, count in self.asked.items()
            if request.startswith("POST") and request not in LOOKS
        }

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        if method == "GET":
            return [
                (r"/v1/batch_completions/(\w+)/result", self._completed),
                (r"/v1/batch_embeddings/(\w+)/result", self._embedded),
                *super()._routes(method),
            ]
        return [
            (r"/v1/batch_(?:completions|embeddings)", self._begin),
            ("/v2/completions", self._complete),
            ("/v1/embedding", lambda body: {"embedding": [[1.0, 0.0]] * len(_listed(body["prompt"]))}),
            ("/inf/chat/completions", self._chat),
            *super()._routes(method),
        ]

    def _begin(self, body: dict[str, Any]) -> dict[str, str]:
        batch = str(len(self.batches) + 1)
        self.batches[batch] = _listed(body["prompt"])
        return {"id": batch}

    def _prompts(self, batch: str) -> list[str]:
        if batch not in self.batches:
            raise Refusal(498, "no such job")
        return self.batches[batch]

    def _completed(self, _: dict[str, Any], batch: str) -> dict[str, Any]:
        prompts = self._prompts(batch)
        return {"outputs": prompts, "finish_reason": ["stop"] * len(prompts)}

    def _embedded(self, _: dict[str, Any], batch: str) -> dict[str, Any]:
        return {"embedding": [[1.0, 0.0]] * len(self._prompts(batch))}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = _listed(body["prompt"])
        return {"outputs": prompts, "finish_reason": ["stop"] * len(prompts)}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body["messages"][-1]["content"]
        message = {"role": "assistant", "content": text}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def _listed(prompt: str | list[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else prompt


def operator_classes() -> dict[str, type[BaseOperator]]:
    """Every operator that a user may put into a Dag, and the sensor, by name without ``Lamini``."""
    package = airflow_provider_lamini.operators
    found: dict[str, type[BaseOperator]] = {}
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        for each in vars(import_module(module.name)).values():
            own = isinstance(each, type) and each.__module__ == module.name and issubclass(each, BaseOperator)
            if own and each.__name__.startswith("Lamini") and not isabstract(each):
                found[each.__name__.removeprefix("Lamini")] = each
    found["JobSensor"] = LaminiJobSensor
    return found


ROWS = [{"input": "what", "output": "that"}]
MODEL = "0b2c1d1e-0000-4000-8000-000000000001"

GOOD: dict[str, dict[str, object]] = {
    "BatchInferenceOperator": {"input": ["a b"], "model_name": "m", "output": "{out}"},
    "EmbeddingOperator": {"input": ["a b"], "output": "{out}"},
    "ClassifyOperator": {"model_id": "model-c1", "input": ["a b"], "output": "{out}"},
    "MemoryRagQueryOperator": {"index_id": "1", "input": ["a b"], "output": "{out}"},
    "CompletionOperator": {"prompt": "a b", "model_name": "m"},
    "ChatOperator": {"messages": "a b", "model_name": "m"},
    "TrainOperator": {"model_name": "m", "input": ROWS},
    "UploadDatasetOperator": {"input": ROWS},
    "ClassifierTrainOperator": {
        "project": "p",
        "model_name": "m",
        "classes": {"spam": "unwanted", "ham": "wanted"},
        "examples": {"spam": ["buy"], "ham": ["hello"]},
    },
    "EvaluateOperator": {"input": ROWS, "model_name": "m", "output": "{out}"},
    "EvaluateClassifierOperator": {"model_id": MODEL, "input": ROWS},
    "MemoryRagBuildOperator": {"files": "{docs}", "model_name": "m"},
    "MemoryRagRefreshOperator": {"files": "{docs}", "model_name": "m", "manifest": "{manifest}"},
    "DownloadModelOperator": {"model_name": "m"},
    "ResumeJobOperator": {"job_id": "1"},
    "CancelJobOperator": {"job_id": "1"},
    "JobSensor": {"job_id": "1"},
}
"""For each operator the fewest arguments that it takes. Places in braces are made for each test."""


@dataclass(slots=True)
class World:
    """Where a case runs.

    :param platform: the platform
    :param folder: a folder of the test's own
    :param made: files in it before the task runs
    """

    platform: StrictPlatform
    folder: Path
    made: set[str] = field(default_factory=set)

    @property
    def places(self) -> dict[str, Path]:
        """What stands for a place in arguments."""
        return {
            "out": self.folder / "out",
            "docs": self.folder / "docs",
            "manifest": self.folder / "manifest.json",
            "here": self.folder,
        }

    def put(self, name: str, content: bytes = b"") -> Path:
        """Make a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def settle(self) -> None:
        """Take note of the files that are there before the task runs."""
        self.put("docs/page.md", b"A page about spam.\n")
        self.made = self.files()

    def files(self) -> set[str]:
        """All that is in the folder now."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def placed(self, value: object) -> object:
        """A value with the places in its texts filled in."""
        if isinstance(value, str):
            for name, path in self.places.items():
                value = value.replace("{" + name + "}", str(path))
            return value
        if isinstance(value, list):
            return [self.placed(each) for each in value]
        return value

    def make(self, operator: str, arguments: Mapping[str, object]) -> BaseOperator:
        """A new operator: good arguments, and those of a case in their place."""
        given = GOOD[operator] | dict(arguments)
        placed = {name: self.placed(value) for name, value in given.items()}
        return operator_classes()[operator](task_id="task", **placed)

    def refuses(self, case: Case) -> str:
        """Run a case and make sure that it ends as it should: in one clear error, and without a trace.

        :returns: the message
        """
        for name, content in case.files.items():
            self.put(name, content)
        self.settle()
        with pytest.raises(InvalidArgumentError) as caught:
            self.run(case.operator, case.arguments)
        message = str(caught.value)
        assert any(name in message for name in case.names), message
        assert message.isprintable()
        assert len(message) < LONGEST
        assert SECRET not in message
        assert self.platform.work == {}
        assert self.files() == self.made
        return message

    def run(self, operator: str, arguments: Mapping[str, object]) -> Any:
        """Run a task until it ends or waits.

        :returns: its result; ``None`` where it waits
        """
        made = self.make(operator, arguments)
        try:
            if operator == "JobSensor":
                return made.execute({})  # type: ignore[arg-type]
            return execute(made)
        except TaskDeferred:
            return None


def connection(url: str, **fields: object) -> str:
    """A connection as the environment holds it."""
    given = {"conn_type": "lamini", "host": url, "password": "a-key-for-tests", "extra": {"retry_budget": 0}}
    return json.dumps(given | fields)
