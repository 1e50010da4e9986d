"""A platform on which every job has already ended, and valid arguments for each operator."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import isabstract
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

import airflow_provider_lamini.operators
import airflow_provider_lamini.sensors
from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.support.emissary_platform import EmissaryPlatform
from tests.support.knowledge_platform import RAG, KnowledgePlatform, Scripted
from tests.support.scripted_platform import Refusal
from tests.support.tasks import execute
from tests.support.tuning_platform import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.bad_input.cases import Case

SECRET = "opensesame"
MAXIMUM_LENGTH = 700
"""Maximum length of a message in characters."""
STATUS_REQUESTS = (f"POST {RAG}/status",)
"""POST requests that only read a status."""


class StrictPlatform(KnowledgePlatform):
    """The scripted platform, with models that repeat their prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, list[str]] = {}
        self.usage: dict[str, int] | None = None
        """The tokens that a chat reports for each answer."""
        self.answers: dict[str, Any] = {}
        """What is answered to a text instead of the text itself; in a chat, a mapping is a whole choice."""
        self.reset()

    def reset(self) -> None:
        """Reset the counters. One job of each kind has succeeded, and one model is available."""
        for items in (self.batches, self.datasets, self.jobs, self.indexes, self.trainings, self.projects):
            items.clear()
        self.answers.clear()
        self.request_counts.clear()
        self.bodies.clear()
        self.usage = None
        self.jobs["1"] = Job(1, {}, ["COMPLETED"])
        self.indexes["1"] = Scripted(("COMPLETED",))
        self.downloads = {"m": ["available"]}

    @property
    def work(self) -> dict[str, int]:
        """Number of requests that started, stored or changed something, by path."""
        return {
            request: count
            for request, count in self.request_counts.items()
            if request.startswith("POST") and request not in STATUS_REQUESTS
        }

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        if method == "GET":
            return [
                (r"/v1/batch_completions/(\w+)/result", self._batch_outputs),
                (r"/v1/batch_embeddings/(\w+)/result", self._batch_vectors),
                *super()._routes(method),
            ]
        return [
            (r"/v1/batch_(?:completions|embeddings)", self._start_batch),
            ("/v2/completions", self._complete),
            ("/v1/embedding", lambda body: {"embedding": [[1.0, 0.0]] * len(_as_list(body["prompt"]))}),
            ("/inf/chat/completions", self._chat),
            (f"{RAG}/completions", self._query),
            *super()._routes(method),
        ]

    def _start_batch(self, body: dict[str, Any]) -> dict[str, str]:
        batch = str(len(self.batches) + 1)
        self.batches[batch] = _as_list(body["prompt"])
        return {"id": batch}

    def _prompts(self, batch: str) -> list[str]:
        if batch not in self.batches:
            raise Refusal(498, "no such job")
        return self.batches[batch]

    def _batch_outputs(self, _: dict[str, Any], batch: str) -> dict[str, Any]:
        return self._outputs(self._prompts(batch))

    def _outputs(self, prompts: list[str]) -> dict[str, Any]:
        outputs = [self.answers.get(prompt, prompt) for prompt in prompts]
        return {"outputs": outputs, "finish_reason": ["stop"] * len(prompts)}

    def _batch_vectors(self, _: dict[str, Any], batch: str) -> dict[str, Any]:
        return {"embedding": [self.answers.get(prompt, [1.0, 0.0]) for prompt in self._prompts(batch)]}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._outputs(_as_list(body["prompt"]))

    def _query(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._complete_with_index(body)
        return answer | {"outputs": self.answers.get(body["prompt"], answer["outputs"])}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        usage = {} if self.usage is None else {"usage": self.usage}
        return {"choices": [choice(self.answers, body)], **usage}


def choice(answers: Mapping[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the only choice of a chat's answer.

    :param answers: what is answered to a text instead of the text itself; a mapping is the choice
    :param body: the request
    """
    text = body["messages"][-1]["content"]
    answer = answers.get(text, text)
    if isinstance(answer, dict):
        return {"index": 0, "finish_reason": "stop", **answer}
    return {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}


def _as_list(prompt: str | list[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else prompt


def public_operators() -> list[type[BaseOperator]]:
    """Return all operators and sensors that a Dag can use."""
    found: list[type[BaseOperator]] = []
    for package in (airflow_provider_lamini.operators, airflow_provider_lamini.sensors):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            for item in vars(import_module(module.name)).values():
                own = (
                    isinstance(item, type)
                    and item.__module__ == module.name
                    and issubclass(item, BaseOperator)
                )
                if own and not isabstract(item):
                    found.append(item)
    return found


@cache
def operator_classes() -> dict[str, type[BaseOperator]]:
    """Return those that need a platform by class name, without ``Lamini`` where it begins with that."""
    return {
        operator.__name__.removeprefix("Lamini"): operator
        for operator in public_operators()
        if operator.__name__.startswith(("Lamini", "Emissary"))
    }


def conn_type_of(operator: str) -> str:
    """Return the connection type of an operator.

    :param operator: its name in `operator_classes`
    """
    return "emissary" if operator.startswith("Emissary") else "lamini"


class StrictEmissary(EmissaryPlatform):
    """The scripted Emissary, with one thing of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}
        """What is answered to a text instead of the text in capitals; in a chat, a mapping is a whole choice."""
        self.reset()

    def reset(self) -> None:
        """Reset the counters. One thing of each kind is there, and ready."""
        self.answers.clear()
        for items in (self.datasets, self.trainings, self.deployments, self.engines):
            items.clear()
        self.projects = {"ms-1": "support"}
        self.request_counts.clear()
        self.bodies.clear()
        self.new("dataset", ("uploaded",), name="rows")
        self.new("training", ("Success",), name="job")
        self.new("deployment", ("Deployed",), name="live", training_id="tr-1", checkpoint=100)
        self.new("engine", ("Active",), name="shared", base_model="base")

    @property
    def work(self) -> dict[str, int]:
        """Number of requests that started, stored or changed something, by path."""
        return {
            request: count for request, count in self.request_counts.items() if not request.startswith("GET")
        }

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._complete(body)
        if body["prompt"] in self.answers:
            answer["choices"][0]["text"] = self.answers[body["prompt"]]
        return answer

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._chat(body)
        if body["messages"][-1]["content"] in self.answers:
            answer["choices"] = [choice(self.answers, body)]
        return answer


ROWS = [{"input": "what", "output": "that"}]
MODEL = "0b2c1d1e-0000-4000-8000-000000000001"

VALID_ARGUMENTS: dict[str, dict[str, object]] = {
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
    "EmissaryProjectOperator": {"name": "support"},
    "EmissaryDeleteProjectOperator": {"project_id": "ms-1", "delete_contents": True},
    "EmissaryUploadDatasetOperator": {"project_id": "ms-1", "input": ROWS},
    "EmissaryTrainOperator": {"project_id": "ms-1", "base_model": "base", "dataset_id": "ds-1"},
    "EmissaryGRPOTrainOperator": {
        "project_id": "ms-1",
        "base_model": "base",
        "dataset_id": "ds-1",
        "test_functions": ["accuracy"],
        "reward": {"accuracy": 1},
    },
    "EmissaryChooseCheckpointOperator": {"project_id": "ms-1", "training_job_id": "tr-1"},
    "EmissaryDeployOperator": {"project_id": "ms-1", "training_job_id": "tr-1", "checkpoint": 200},
    "EmissaryEngineOperator": {"base_model": "base"},
    "EmissaryUndeployOperator": {"project_id": "ms-1", "model_name": "live"},
    "EmissaryDeleteOperator": {"job_id": "ms-1/dp-1", "kind": "deployment"},
    "EmissaryReactivateOperator": {"job_id": "ms-1/dp-1"},
    "EmissaryDeactivateEngineOperator": {"engine_id": "engine-1"},
    "EmissaryBatchInferenceOperator": {
        "input": ["a b"],
        "output": "{out}",
        "model_name": "live",
        "project_id": "ms-1",
    },
    "EmissaryJobSensor": {"job_id": "ms-1/tr-1"},
}
"""The minimal arguments of each operator. Each test replaces the paths in braces."""


@dataclass(slots=True)
class World:
    """The platform and the folder of a test.

    :param platform: the platform that Lamini's operators talk to
    :param emissary: the one that Emissary's talk to
    :param folder: the test's folder
    :param files_before: files in it before the task runs
    """

    platform: StrictPlatform
    emissary: StrictEmissary
    folder: Path
    files_before: set[str] = field(default_factory=set)

    @property
    def work(self) -> dict[str, int]:
        """Number of requests that started, stored or changed something on either platform, by path."""
        return self.platform.work | self.emissary.work

    @property
    def request_counts(self) -> dict[str, int]:
        """Number of all requests to either platform, by path."""
        return dict(self.platform.request_counts | self.emissary.request_counts)

    def reset(self) -> None:
        """Bring both platforms into the state that a test finds."""
        self.platform.reset()
        self.emissary.reset()

    @property
    def paths(self) -> dict[str, Path]:
        """The paths that arguments name in braces."""
        return {
            "out": self.folder / "out",
            "docs": self.folder / "docs",
            "manifest": self.folder / "manifest.json",
            "here": self.folder,
        }

    def put(self, name: str, content: bytes = b"") -> Path:
        """Create a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def note_files(self) -> None:
        """Create the documents, and remember which files exist before the task runs."""
        self.put("docs/page.md", b"A page about spam.\n")
        self.files_before = self.files()

    def files(self) -> set[str]:
        """Return all paths in the folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def fill_in(self, value: object) -> object:
        """Replace the names in braces in a value by paths."""
        if isinstance(value, str):
            for name, path in self.paths.items():
                value = value.replace("{" + name + "}", str(path))
            return value
        if isinstance(value, list):
            return [self.fill_in(item) for item in value]
        return value

    def make(self, operator: str, arguments: Mapping[str, object]) -> BaseOperator:
        """Create an operator with valid arguments, some of them replaced."""
        values = VALID_ARGUMENTS[operator] | dict(arguments)
        filled = {name: self.fill_in(value) for name, value in values.items()}
        return operator_classes()[operator](task_id="task", **filled)

    def assert_rejected(self, case: Case) -> str:
        """Run a case. It must raise one clear error, send nothing and write nothing.

        :return: the error message
        """
        for name, content in case.files.items():
            self.put(name, content)
        self.note_files()
        with pytest.raises(InvalidArgumentError) as caught:
            self.run(case.operator, case.arguments)
        message = str(caught.value)
        assert message not in _shown_causes(caught.value), "the log shows the same error twice"
        assert any(text in message for text in case.texts), message
        assert message.isprintable()
        assert len(message) < MAXIMUM_LENGTH
        assert SECRET not in message
        assert self.work == {}
        assert self.files() == self.files_before
        return message

    def run(self, operator: str, arguments: Mapping[str, object]) -> Any:
        """Run a task until it ends or defers.

        :return: its result; ``None`` if it defers
        """
        task = self.make(operator, arguments)
        try:
            return execute(task)
        except TaskDeferred:
            return None


def _shown_causes(error: BaseException) -> list[str]:
    """Return the messages of the errors that a traceback shows above an error."""
    shown = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None:
        shown.append(str(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return shown


def connection(url: str, **fields: object) -> str:
    """Return a connection in the form of an environment variable."""
    defaults = {
        "conn_type": "lamini",
        "host": url,
        "password": "a-key-for-tests",
        "extra": {"retry_budget": 0},
    }
    return json.dumps(defaults | fields)
